"""Noticing the first non-finite loss or gradient on the device, without waiting for it."""

import torch
from torch import Tensor


class DivergenceGuard:
    """Once a loss or gradient norm is not finite, no later update is applied; the step of the first one is kept.

    All state is on the device: `observe` never waits for it, only `diverged_at` does.
    """

    def __init__(self, device: torch.device, steps_done: int = 0) -> None:
        self.diverged = torch.zeros((), device=device)  # 1.0 from the first non-finite step on
        self._finite_steps = torch.full((), steps_done, dtype=torch.int64, device=device)

    @property
    def alive(self) -> Tensor:
        """1.0 while every step was finite, else 0.0."""
        return 1 - self.diverged

    def observe(self, loss: Tensor, gradient_norm: Tensor) -> None:
        """Takes in one step's scalars. To be called before the optimizer, which skips where `diverged` is 1."""
        finite = torch.isfinite(loss) & torch.isfinite(gradient_norm)
        torch.maximum(self.diverged, (~finite).to(self.diverged.dtype), out=self.diverged)
        self._finite_steps += (self.diverged == 0).to(torch.int64)

    def diverged_at(self) -> int | None:
        """The first non-finite step, counted from 1, or None where there is none. Waits for the device."""
        return int(self._finite_steps) + 1 if self.diverged.item() else None
