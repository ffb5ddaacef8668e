"""Noticing the first non-finite loss or gradient on the device, without waiting for it."""

import torch
from torch import Tensor


class DivergenceGuard:
    """Once a loss or gradient norm is not finite, no later update is applied; the step of the first one is kept.

    All state is on the device: `observe` never waits for it, only `diverged_at` does.
    """

    def __init__(self, device: torch.device, steps_done: int = 0) -> None:
        self.alive = torch.ones((), device=device)  # 0.0 from the first non-finite step on
        self._finite_steps = torch.full((), steps_done, dtype=torch.float64, device=device)  # exact up to 2^53

    @property
    def diverged(self) -> Tensor:
        """1.0 from the first non-finite step on, else 0.0."""
        return 1 - self.alive

    def observe(self, loss: Tensor, gradient_norm: Tensor) -> None:
        """Takes in one step's scalars. To be called before the optimizer, which skips where `diverged` is 1."""
        self.alive *= torch.isfinite(loss + gradient_norm)  # no sum of a non-finite number is finite
        self._finite_steps += self.alive

    def diverged_at(self) -> int | None:
        """The first non-finite step, counted from 1, or None where there is none. Waits for the device."""
        return None if self.alive.item() else int(self._finite_steps) + 1
