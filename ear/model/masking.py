"""Masking: random orders, the mask ratio of training and the cosine schedule of generation."""

import math
from statistics import NormalDist

import torch
from torch import Tensor


def random_orders(images: int, tokens: int, generator: torch.Generator) -> Tensor:
    """An independent uniform permutation of positions for each image, [images, tokens] int64."""
    return torch.rand(images, tokens, generator=generator).argsort(dim=1)


def masked_count(tokens: int, ratio: float) -> int:
    """The number of masked tokens, ceil(tokens * ratio): at least one for every ratio above 0."""
    return math.ceil(tokens * ratio)


def sample_mask_ratio(minimum: float, std: float, generator: torch.Generator) -> float:
    """Draw a mask ratio from normal(1, std) truncated to [minimum, 1] (MAR, Li et al. 2024, and EAR), by inversion."""
    uniform = torch.rand((), generator=generator, dtype=torch.float64).item()
    normal = NormalDist(mu=1, sigma=std)
    lowest, highest = normal.cdf(minimum), 0.5
    probability = lowest + uniform * (highest - lowest)
    # If std is much smaller than 1 - minimum, the lower tail underflows to 0, where the inverse is undefined.
    return min(1.0, max(minimum, normal.inv_cdf(max(probability, 1e-300))))


def mask_from_orders(orders: Tensor, count: int | Tensor) -> Tensor:
    """The mask [B, L] bool of the first `count` positions of each order. The last of an order is generated first.

    `count` is one number, or [B, 1] with one for each order.
    """
    first = torch.arange(orders.shape[1], device=orders.device) < count
    return torch.zeros_like(orders, dtype=torch.bool).scatter_(1, orders, first.expand_as(orders))


def gather_positions(values: Tensor, positions: Tensor) -> Tensor:
    """The values [B, n, C] at positions [B, n] of values [B, L, C]."""
    return values.gather(1, positions.unsqueeze(2).expand(-1, -1, values.shape[2]))


def cosine_schedule(tokens: int, steps: int) -> list[int]:
    """The number of masked tokens before each step and after the last one: steps + 1 numbers from `tokens` to 0.

    After step s (from 0) it is max(1, min(before - 1, floor(tokens cos(pi/2 (s + 1)/steps)))), and 0 after the last
    step, which predicts all remaining tokens (MaskGIT, Chang et al. 2022).
    """
    counts = [tokens]
    for step in range(steps - 1):
        cosine = math.floor(tokens * math.cos(math.pi / 2 * (step + 1) / steps))
        counts.append(max(1, min(counts[-1] - 1, cosine)))
    return [*counts, 0]
