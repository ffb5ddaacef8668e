"""Small diffusion processes and heads with random weights."""

import torch

from ear.config.schema import DenoiserConfig, HyvarinenConfig
from ear.scoring.diffusion import (
    GaussianDiffusion,
)
from ear.scoring.hyvarinen import HyvarinenRule

CPU = torch.device("cpu")


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def process(trained: int, kept: int) -> GaussianDiffusion:
    return GaussianDiffusion.cosine(trained, kept, device=CPU, dtype=torch.float64)


def make_rule(steps: int = 20, repeats: int = 2, width: int = 16, depth: int = 2, token_dim: int = 3) -> HyvarinenRule:
    """Conditions of width 4. All weights random, for a fresh head's outputs are 0."""
    config = HyvarinenConfig(diffusion_steps=steps, repeats=repeats, denoiser=DenoiserConfig(width=width, depth=depth))
    rule = HyvarinenRule(config, condition_dim=4, token_dim=token_dim)
    rule.initialise(seeded(0))
    with torch.no_grad():
        for parameter in rule.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=seeded(parameter.numel()))
    return rule
