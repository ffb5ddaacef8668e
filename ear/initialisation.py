"""Weight initialisation of the trunk and of every head."""

import torch
from torch import nn


def initialise_linears(module: nn.Module, generator: torch.Generator) -> None:
    """Initialise all linear layers: Xavier-uniform weights, zero biases (as in the JAX ViT, MAR and EAR)."""
    for child in module.modules():
        if isinstance(child, nn.Linear):
            nn.init.xavier_uniform_(child.weight, generator=generator)
            nn.init.zeros_(child.bias)
