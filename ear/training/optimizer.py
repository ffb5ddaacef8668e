"""AdamW with three parameter groups: with weight decay, without, and the head's matrices with their own rate."""

import torch
from torch import nn

from ear.config.schema import OptimizerConfig
from ear.model import ImageModel

LR_SCALE = "lr_scale"  # each group's learning rate as a multiple of the trunk's


def build_optimizer(model: ImageModel, config: OptimizerConfig) -> torch.optim.AdamW:
    """Build AdamW with the parameter groups of the official code.

    The trunk's matrices and embeddings have weight decay. The head has none; its matrices train at
    `generator_lr_scale` times the trunk's rate, its biases and norms at the full rate.
    """
    decaying: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    head_matrices: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if name.startswith("rule."):
            (head_matrices if parameter.ndim > 1 else plain).append(parameter)
        else:
            (plain if is_bias_or_norm(name, model) else decaying).append(parameter)
    groups = [
        {"params": decaying, "weight_decay": config.weight_decay, LR_SCALE: 1.0},
        {"params": plain, "weight_decay": 0.0, LR_SCALE: 1.0},
        {"params": head_matrices, "weight_decay": 0.0, LR_SCALE: config.generator_lr_scale},
    ]
    # Fused: one pass over all tensors, and the only implementation that can skip an update without a host sync.
    return torch.optim.AdamW(groups, lr=0.0, betas=config.betas, fused=True)


def is_bias_or_norm(name: str, model: nn.Module) -> bool:
    """Whether the parameter `name` is a bias or belongs to a LayerNorm."""
    module, _, leaf = name.rpartition(".")
    return leaf == "bias" or isinstance(model.get_submodule(module), nn.LayerNorm)


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Set the trunk's learning rate; every group gets this rate times its own scale."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group[LR_SCALE]
