"""The MLP generator that takes the softmax's place: condition and noise in, one token out.

Dimensions: N rows, W condition width, G generator width, C noise channels, D values a token, M samples.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ear.config.schema import GeneratorConfig

LAYER_NORM_EPS = 1e-6  # the paper's


class GeneratorBlock(nn.Module):
    """x + gate * MLP(LayerNorm(x) * (1 + scale) + shift), the three signals linear in the embedded noise (adaLN)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.modulation = nn.Linear(width, 3 * width)  # shift, scale, gate
        self.expand = nn.Linear(width, width)
        self.contract = nn.Linear(width, width)

    def forward(self, x: Tensor, noise: Tensor, infer_temperature: float) -> Tensor:
        """x [..., N, G] and activated noise [..., N, G] -> [..., N, G]."""
        shift, scale, gate = self.modulation(noise).chunk(3, dim=-1)
        if infer_temperature != 1.0:
            shift = infer_temperature * shift
        h = torch.addcmul(shift, self.norm(x), 1 + scale)  # one pass over memory instead of two, here and below
        return torch.addcmul(x, gate, self.contract(F.silu(self.expand(h))))


class MLPGenerator(nn.Module):
    """An implicit distribution over tokens: sampled by drawing noise, with no density to evaluate."""

    def __init__(self, config: GeneratorConfig, condition_dim: int, token_dim: int) -> None:
        super().__init__()
        self.noise_channels = config.noise_channels
        self.noise_embedding = nn.Linear(config.noise_channels, config.width)
        self.condition_embedding = nn.Linear(condition_dim, config.width)
        self.blocks = nn.ModuleList(GeneratorBlock(config.width) for _ in range(config.depth))
        self.output_norm = nn.LayerNorm(config.width, eps=LAYER_NORM_EPS, elementwise_affine=False)
        self.output_modulation = nn.Linear(config.width, 2 * config.width)  # shift, scale
        self.output = nn.Linear(config.width, token_dim)

    def zero_modulations_and_output(self) -> None:
        """Starts at output 0 whatever the noise: the gates are shut, the last layer is 0 (adaLN-Zero, DiT)."""
        modulations = [cast(GeneratorBlock, block).modulation for block in self.blocks]
        for linear in [*modulations, self.output_modulation, self.output]:
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, z: Tensor, noise: Tensor, infer_temperature: float = 1.0) -> Tensor:
        """Conditions z [N, W] and noise [N, C] or, for M samples a row, [M, N, C] -> tokens [(M,) N, D] float32.

        `infer_temperature` scales the shift of the residual blocks, not of the last layer; 1 changes nothing.
        """
        x = self.condition_embedding(z)  # broadcasts over the M samples: computed once a row
        activated_noise = F.silu(self.noise_embedding(noise))
        for block in self.blocks:
            x = block(x, activated_noise, infer_temperature)
        shift, scale = self.output_modulation(activated_noise).chunk(2, dim=-1)
        return cast(Tensor, self.output(torch.addcmul(shift, self.output_norm(x), 1 + scale)).float())


def uniform_noise(rows: int, channels: int, generator: torch.Generator) -> Tensor:
    """U[-0.5, 0.5], [rows, channels] float32."""
    return torch.rand(rows, channels, generator=generator, device=generator.device) - 0.5
