"""MAR's denoiser: an MLP that predicts the noise in one token from its condition and the diffusion time.

See Li et al. 2024, section 4, and their public code. EAR's generator has the same residual blocks. There the noise
modulates them; here the sum of time and condition does, and the noisy token is the input.

Dimensions: N rows, W condition width, G denoiser width, D values per token.
"""

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ear.config.schema import DenoiserConfig
from ear.initialisation import initialise_linears
from ear.scoring.generator import LAYER_NORM_EPS, GeneratorBlock

TIME_CHANNELS = 256
LONGEST_PERIOD = 10_000  # steps in which the slowest sinusoid advances by about a radian
TIME_DEVIATION = 0.02


class Denoiser(nn.Module):
    """The denoising MLP.

    Time and condition are embedded outside `forward`, so that a sampler does this once and not at every step.
    """

    def __init__(self, config: DenoiserConfig, condition_dim: int, token_dim: int) -> None:
        super().__init__()
        self.time_expand = nn.Linear(TIME_CHANNELS, config.width)
        self.time_mix = nn.Linear(config.width, config.width)
        self.condition_embedding = nn.Linear(condition_dim, config.width)
        self.token_embedding = nn.Linear(token_dim, config.width)
        self.blocks = nn.ModuleList(GeneratorBlock(config.width) for _ in range(config.depth))
        self.output_norm = nn.LayerNorm(config.width, eps=LAYER_NORM_EPS, elementwise_affine=False)
        self.output_modulation = nn.Linear(config.width, 2 * config.width)  # shift, scale
        self.output = nn.Linear(config.width, 2 * token_dim)  # noise, v

    def initialise(self, generator: torch.Generator) -> None:
        """Initialise as in MAR: Xavier-uniform, except small normal time matrices, and output 0 (adaLN-Zero, DiT)."""
        initialise_linears(self, generator)
        for linear in (self.time_expand, self.time_mix):
            nn.init.normal_(linear.weight, std=TIME_DEVIATION, generator=generator)
        modulations = [cast(GeneratorBlock, block).modulation for block in self.blocks]
        for linear in [*modulations, self.output_modulation, self.output]:
            nn.init.zeros_(linear.weight)

    def embed_time(self, steps: Tensor) -> Tensor:
        """Embed steps of the trained schedule: [...] -> [..., G]."""
        waves = sinusoids(steps.to(self.time_expand.weight.dtype))
        return cast(Tensor, self.time_mix(F.silu(self.time_expand(waves))))

    def embed_condition(self, z: Tensor) -> Tensor:
        """Embed conditions: [..., W] -> [..., G]."""
        return cast(Tensor, self.condition_embedding(z))

    def forward(self, noisy: Tensor, time: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Predict the noise in noisy tokens, and v, which determines the variance.

        Args:
            noisy: [..., D]. time, condition: [..., G], embedded. Leading dimensions broadcast.

        Returns:
            Two of [..., D], float32 (float64 for float64 input).
        """
        signal = F.silu(time + condition)
        x = self.token_embedding(noisy)
        for block in self.blocks:
            x = block(x, signal, 1.0)
        shift, scale = self.output_modulation(signal).chunk(2, dim=-1)
        output = self.output(torch.addcmul(shift, self.output_norm(x), 1 + scale))
        noise, v = output.to(torch.promote_types(output.dtype, torch.float32)).chunk(2, dim=-1)
        return noise, v


def sinusoids(steps: Tensor, channels: int = TIME_CHANNELS) -> Tensor:
    """Cosines, then sines, of steps [...] at geometrically falling frequencies from 1: [..., channels]."""
    half = channels // 2
    exponents = torch.arange(half, device=steps.device, dtype=steps.dtype) / half
    angles = steps.unsqueeze(-1) * torch.exp(-math.log(LONGEST_PERIOD) * exponents)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)
