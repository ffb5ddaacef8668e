"""Classifier-free guidance (Ho & Salimans 2022) over the steps of generation."""

from typing import Literal


def guidance_scales(masked: list[int], cfg: float, schedule: Literal["linear", "constant"]) -> list[float]:
    """The guidance scale of each step, from the numbers of masked tokens that `cosine_schedule` returns.

    The linear schedule is 1 + (cfg - 1) (tokens - after) / tokens (Muse, Chang et al. 2023). The official code counts
    one token as still masked after the last step, so the last scale is slightly below cfg.
    """
    tokens, steps = masked[0], len(masked) - 1
    if schedule == "constant":
        return [cfg] * steps
    return [1 + (cfg - 1) * (tokens - max(1, after)) / tokens for after in masked[1:]]
