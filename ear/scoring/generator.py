"""The MLP generator that replaces the softmax: it turns a condition and noise into a token.

Dimensions: N rows, W condition width, G generator width, C noise channels, D values per token, M samples.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ear.config.schema import GeneratorConfig

LAYER_NORM_EPS = 1e-6  # as in the paper


class GeneratorBlock(nn.Module):
    """A residual block with adaLN: x + gate * MLP(LayerNorm(x) * (1 + scale) + shift).

    Shift, scale and gate are linear in the embedded noise.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.modulation = nn.Linear(width, 3 * width)  # shift, scale, gate
        self.expand = nn.Linear(width, width)
        self.contract = nn.Linear(width, width)

    def forward(self, x: Tensor, noise: Tensor, infer_temperature: float) -> Tensor:
        """Map x [..., N, G] and activated noise [..., N, G] to [..., N, G]."""
        shift, scale, gate = self.modulation(noise).chunk(3, dim=-1)
        if infer_temperature != 1.0:
            shift = infer_temperature * shift
        h = torch.addcmul(shift, self.norm(x), 1 + scale)  # one memory pass instead of two, here and below
        return torch.addcmul(x, gate, self.contract(F.silu(self.expand(h))))


class MLPGenerator(nn.Module):
    """An implicit distribution over tokens: it can be sampled by drawing noise, but has no tractable density."""

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
        """Initialise to output 0 for all noise: all gates and the last layer are 0 (adaLN-Zero, DiT)."""
        modulations = [cast(GeneratorBlock, block).modulation for block in self.blocks]
        for linear in [*modulations, self.output_modulation, self.output]:
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, z: Tensor, noise: Tensor, infer_temperature: float = 1.0) -> Tensor:
        """Map conditions z [N, W] and noise to tokens [(M,) N, D] float32.

        Args:
            noise: [N, C], or [M, N, C] for M samples per row.
            infer_temperature: scales the shift of the residual blocks, but not that of the last layer.
        """
        x = self.condition_embedding(z)  # broadcasts over the M samples, so it is computed once per row
        activated_noise = F.silu(self.noise_embedding(noise))
        for block in self.blocks:
            x = block(x, activated_noise, infer_temperature)
        shift, scale = self.output_modulation(activated_noise).chunk(2, dim=-1)
        return cast(Tensor, self.output(torch.addcmul(shift, self.output_norm(x), 1 + scale)).float())


def uniform_noise(rows: int, channels: int, generator: torch.Generator) -> Tensor:
    """Draw noise from U[-0.5, 0.5], [rows, channels] float32."""
    return torch.rand(rows, channels, generator=generator, device=generator.device) - 0.5
