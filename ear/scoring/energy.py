"""EAR's scoring rule: the energy score as a training objective."""

import torch
from torch import Tensor

from ear.config.schema import EnergyConfig, SamplingConfig
from ear.initialisation import initialise_linears
from ear.scoring.base import ScoringRule
from ear.scoring.energy_score import fair_energy_score
from ear.scoring.generator import MLPGenerator, uniform_noise


class EnergyRule(ScoringRule):
    """Trains an MLP generator with twice the fair energy score, which with two samples is the paper's loss.

    Classifier-free guidance acts on the condition, z = cfg z_class + (1 - cfg) z_null, before the generator.
    """

    def __init__(self, config: EnergyConfig, condition_dim: int, token_dim: int) -> None:
        super().__init__()
        self.alpha = config.alpha
        self.samples = config.samples
        self.epsilon = config.epsilon
        self.generator = MLPGenerator(config.generator, condition_dim, token_dim)

    def initialise(self, generator: torch.Generator) -> None:
        initialise_linears(self.generator, generator)
        self.generator.zero_modulations_and_output()

    def training_noise(self, rows: int, generator: torch.Generator) -> Tensor:
        """Draw uniform noise [M, N, C]."""
        noise = uniform_noise(self.samples * rows, self.generator.noise_channels, generator)
        return noise.view(self.samples, rows, -1)

    def loss(self, z: Tensor, target: Tensor, noise: Tensor, *, train_temperature: float = 1.0) -> Tensor:
        """Twice the fair energy score of each row, [N]."""
        samples = self.generator(z, noise)
        return 2.0 * fair_energy_score(
            samples, target, alpha=self.alpha, train_temperature=train_temperature, epsilon=self.epsilon
        )

    def sampling_noise(self, rows: int, generator: torch.Generator, settings: SamplingConfig) -> Tensor:
        """Draw uniform noise [N, C]."""
        return uniform_noise(rows, self.generator.noise_channels, generator)

    def sample(
        self,
        z: Tensor,
        noise: Tensor,
        *,
        z_null: Tensor | None = None,
        cfg: float = 1.0,
        infer_temperature: float = 1.0,
    ) -> Tensor:
        """Sample tokens [N, D], with guidance on the conditions."""
        if z_null is not None:
            z = torch.lerp(z_null, z, cfg)
        tokens: Tensor = self.generator(z, noise, infer_temperature)
        return tokens
