"""The energy score (Gneiting & Raftery 2007, section 4.3), negatively oriented: lower is better.

    S(p, y) = E|x - y|^alpha - tau/2 E|x - x'|^alpha,    x, x' ~ p independent

It is strictly proper for 0 < alpha < 2 and tau = 1. At alpha = 2 and tau = 1 it equals |E x - y|^2, so it depends on p
only through its mean: proper, but not strictly.

Dimensions: M samples, N rows, D values per token.
"""

from itertools import combinations

import torch
from torch import Tensor


def fair_energy_score(
    samples: Tensor, target: Tensor, *, alpha: float, train_temperature: float = 1.0, epsilon: float = 0.0
) -> Tensor:
    """Unbiased estimate of each row's energy score from M >= 2 independent samples (the "fair" estimator).

        1/M sum_j |x_j - y|^alpha - tau / (2 M (M - 1)) sum_{j != k} |x_j - x_k|^alpha

    The paper's loss |x_1 - y|^alpha + |x_2 - y|^alpha - tau |x_1 - x_2|^alpha is twice this at M = 2.

    Args:
        samples: [M, N, D]. target: [N, D].
        train_temperature: tau, the weight of the diversity term; 1 is the energy score.
        epsilon: see `powered_distance`.

    Returns:
        [N] float32 (float64 for float64 input).
    """
    assert len(samples) >= 2, "the diversity term needs two samples"
    accuracy = powered_distance(samples - target, alpha, epsilon).mean(dim=0)
    # The mean over pairs j < k is the sum over j != k divided by M (M - 1).
    pairs = torch.stack([one - other for one, other in combinations(samples.unbind(), 2)])
    diversity = powered_distance(pairs, alpha, epsilon).mean(dim=0)
    score: Tensor = accuracy - train_temperature / 2 * diversity
    return score


def powered_distance(difference: Tensor, alpha: float, epsilon: float = 0.0) -> Tensor:
    """|x|^alpha along the last dimension, or (|x|^2 + epsilon)^(alpha/2) if epsilon > 0; at least in float32.

    The gradient is alpha |x|^(alpha - 1) x/|x|. At x = 0, `vector_norm` defines x/|x| as 0, a subgradient, so for
    alpha >= 1 the gradient is 0. For alpha < 1 it grows without bound as x approaches 0, and at 0 it is NaN (infinity
    times 0), which an epsilon avoids.
    """
    difference = difference.to(torch.promote_types(difference.dtype, torch.float32))
    if epsilon > 0:
        return difference.square().sum(dim=-1).add(epsilon).pow(alpha / 2)
    if alpha == 2:
        return difference.square().sum(dim=-1)
    norm: Tensor = torch.linalg.vector_norm(difference, dim=-1)
    return norm if alpha == 1 else norm.pow(alpha)
