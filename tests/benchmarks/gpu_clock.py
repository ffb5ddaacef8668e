"""Clocks that wait for a GPU's queue of work, or for nothing on a CPU."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Row = dict[str, Any]


def synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds(action: Callable[[], object]) -> float:
    synchronise()
    started = time.perf_counter()
    action()
    synchronise()
    return time.perf_counter() - started


def measured(values: list[float]) -> Row:
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "rounds": len(values)}


class Stopwatch:
    """Adds up the device's time between pairs of marks in its queue."""

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._pairs: list[tuple[Any, Any]] = []

    def timed(self, action: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """The same action, timed at every call."""

        def call(*arguments: Any, **options: Any) -> Tensor:
            begin = self._mark()
            result = action(*arguments, **options)
            self._pairs.append((begin, self._mark()))
            return result

        return call

    def _mark(self) -> Any:
        if not self._on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def take(self) -> float:
        """Seconds since the last call of this method."""
        synchronise()
        pairs, self._pairs = self._pairs, []
        if self._on_gpu:
            return float(sum(begin.elapsed_time(end) for begin, end in pairs)) / 1e3
        return float(sum(end - begin for begin, end in pairs))
