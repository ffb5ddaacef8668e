"""Training progress on stderr."""

import time
from types import TracebackType

from rich.progress import TaskID

from ear.terminal.progress import progress_bar
from ear.training.callbacks import Callback, TrainingState
from ear.training.history import TrainingRecord

LINE_SECONDS = 60  # between lines in a log, where a bar can't be redrawn


class TrainingBar(Callback):
    """Shows a training's steps, loss and ETA: as a bar on a terminal, else as one line a minute."""

    def __init__(self, total_steps: int) -> None:
        self._progress = progress_bar()
        self._total_steps = total_steps
        self._task: TaskID | None = None
        self._next_line = 0.0

    def __enter__(self) -> "TrainingBar":
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def on_record(self, trainer: TrainingState, record: TrainingRecord) -> None:
        if self._task is None:
            # Started at the first record, so that a resumed training's ETA uses only the steps of this process.
            self._task = self._progress.add_task("training", total=self._total_steps, completed=record.step, note="")
        self._progress.update(self._task, completed=record.step, note=f"loss {record.loss:.4f}")
        console = self._progress.console
        if not console.is_terminal and time.monotonic() >= self._next_line:
            console.print(self._progress.get_renderable(), soft_wrap=True)
            self._next_line = time.monotonic() + LINE_SECONDS
