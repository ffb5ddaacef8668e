"""Callbacks of the training loop, which itself knows nothing of checkpoint files, stores or logging."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from ear.config import RunConfig
from ear.training.history import TrainingRecord


class TrainingState(Protocol):
    """The part of a `Trainer` that callbacks use."""

    @property
    def config(self) -> RunConfig: ...

    @property
    def step(self) -> int:
        """Steps done."""
        ...

    @property
    def stage(self) -> int:
        """The index of the stage that the next step belongs to."""
        ...

    @property
    def seconds(self) -> float:
        """Seconds of training, without interruptions."""
        ...

    @property
    def diverged_at(self) -> int | None:
        """The first non-finite step, counted from 1."""
        ...

    @property
    def finished(self) -> bool:
        """Whether no step is left, or the training has diverged."""
        ...

    def save(self, path: Path) -> None:
        """Write a checkpoint."""
        ...


class Callback:
    """Base class for hooks into the training loop. Each hook does nothing unless overridden."""

    def on_record(self, trainer: TrainingState, record: TrainingRecord) -> None:
        """Called every `execution.log_every` steps and at each stage's end, after `record` was added to the curve."""

    def on_stage_end(self, trainer: TrainingState, stage: int) -> None:
        """Called when all steps of stage `stage` (from 0) are done."""

    def on_divergence(self, trainer: TrainingState, step: int) -> None:
        """Called when step `step` (from 1) had a non-finite loss or gradient; the weights are those before it."""


class PeriodicCheckpoint(Callback):
    """Saves a checkpoint every `seconds`, so that an interruption loses no more training than that."""

    def __init__(
        self, path_of_stage: Callable[[int], Path], seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`path_of_stage` maps a stage's index to the file for its checkpoint."""
        self._path_of_stage = path_of_stage
        self._seconds = seconds
        self._clock = clock
        self._saved_at = clock()

    def on_record(self, trainer: TrainingState, record: TrainingRecord) -> None:
        if self._clock() - self._saved_at >= self._seconds and not trainer.finished:
            trainer.save(self._path_of_stage(trainer.stage))
            self._saved_at = self._clock()
