"""How matrices start, in the trunk and in every head."""

import torch
from torch import nn


def initialise_linears(module: nn.Module, generator: torch.Generator) -> None:
    """Xavier-uniform matrices, zero biases (the JAX ViT's initialisation, which MAR and EAR follow)."""
    for child in module.modules():
        if isinstance(child, nn.Linear):
            nn.init.xavier_uniform_(child.weight, generator=generator)
            nn.init.zeros_(child.bias)
