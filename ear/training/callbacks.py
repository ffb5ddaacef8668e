"""What happens around the training loop. The loop knows none of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ear.training.history import TrainingRecord

if TYPE_CHECKING:
    from ear.training.trainer import Trainer


class Callback:
    """Hooks of the loop; each does nothing unless overridden."""

    def on_record(self, trainer: Trainer, record: TrainingRecord) -> None:
        """Every `execution.log_every` steps and at each stage's end, after the record was added to the curve."""

    def on_stage_end(self, trainer: Trainer, stage: int) -> None:
        """All steps of stage `stage` (from 0) are done."""

    def on_divergence(self, trainer: Trainer, step: int) -> None:
        """Step `step`, counted from 1, had a non-finite loss or gradient; weights are those of the step before."""


class PeriodicCheckpoint(Callback):
    """Saves the training every so many seconds, so that an interruption costs no more than that."""

    def __init__(
        self, path_of_stage: Callable[[int], Path], seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`path_of_stage` gives the file for an unfinished stage's checkpoint, by the stage's index."""
        self._path_of_stage = path_of_stage
        self._seconds = seconds
        self._clock = clock
        self._saved_at = clock()

    def on_record(self, trainer: Trainer, record: TrainingRecord) -> None:
        if self._clock() - self._saved_at >= self._seconds and not trainer.finished:
            trainer.save(self._path_of_stage(trainer.stage))
            self._saved_at = self._clock()
