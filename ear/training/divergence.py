"""Detects the first non-finite loss or gradient on the device, without synchronising with it."""

import torch
from torch import Tensor


class DivergenceGuard:
    """Remembers the first step whose loss or gradient norm is not finite, and tells the optimizer to skip from there.

    All state is on the device. `observe` never waits for the device; `diverged_at` does.
    """

    def __init__(self, device: torch.device, steps_done: int = 0) -> None:
        self.alive = torch.ones((), device=device)  # 0.0 from the first non-finite step on
        self._finite_steps = torch.full((), steps_done, dtype=torch.float64, device=device)  # exact up to 2^53

    @property
    def diverged(self) -> Tensor:
        """1.0 from the first non-finite step on, else 0.0."""
        return 1 - self.alive

    def observe(self, loss: Tensor, gradient_norm: Tensor) -> None:
        """Record one step's loss and gradient norm. Call it before the optimizer, which skips if `diverged` is 1."""
        self.alive *= torch.isfinite(loss + gradient_norm)  # a sum with a non-finite term is not finite
        self._finite_steps += self.alive

    def diverged_at(self) -> int | None:
        """The first non-finite step (from 1), or None. Waits for the device."""
        return None if self.alive.item() else int(self._finite_steps) + 1
