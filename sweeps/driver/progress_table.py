"""The live display of a sweep's tasks in a terminal."""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ear.terminal.console import terminal
from ear.terminal.units import clock
from sweeps.driver.task_progress import OVER, Counts, Row, State
from sweeps.spec.metric import written

SUMMARY_SECONDS = 60  # between two summary lines when the output is no terminal
COUNT_SECONDS = 2.0  # between two counts
ROWS_KEPT = 200  # rows of finished tasks
LINES_AROUND = 5  # terminal lines beside the rows: title, header, "and N more tasks", summary, cursor
STYLES = {
    "training": "cyan",
    "evaluating": "cyan",
    "finished": "green",
    "stopped": "yellow",
    "stopped early": "yellow",
    "diverged": "yellow",
    "retrying": "red",
    "failed": "red",
}


class ProgressTable:
    """The tasks of a sweep: a live table on a terminal; elsewhere a line per change and a summary every minute."""

    def __init__(
        self, title: str, slots: int, count: Callable[[], Counts], objectives: Sequence[str] = ("fid",)
    ) -> None:
        """Creates the table of a sweep that runs `slots` tasks at a time; it calls `count` every few seconds."""
        self.rows: dict[str, Row] = {}  # by trial
        self._title = title
        self._slots = slots
        self._objectives = objectives
        self._count = count
        self._counts = count()
        self._over = False
        self._counted = time.monotonic()
        self._paces: list[float] = []  # seconds per step of finished tasks
        self._console = terminal(stderr=True)
        self._summarised = time.monotonic()
        self._live = Live(get_renderable=self.render, console=self._console, auto_refresh=False)

    def __enter__(self) -> "ProgressTable":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._counts, self._over = self._count(), True
        if self._console.is_terminal:
            self._live.stop()  # draws the last state
        else:
            self._log(self.summary())

    def begin(self, trial: str, label: str, total_steps: int) -> None:
        """Adds a row for a task that starts as this trial."""
        self.rows[trial] = Row(label, total_steps)
        over = [key for key, row in self.rows.items() if row.state in OVER]
        for key in over[: max(0, len(over) - ROWS_KEPT)]:
            del self.rows[key]

    def update(self, trial: str, state: State, steps: int | None = None, loss: float | None = None) -> None:
        """Updates the trial's row with its report."""
        row = self.rows[trial]
        changed = state != row.state
        if changed and state in OVER and row.pace is not None:
            self._paces = [*self._paces[-20:], row.pace]
        row.state = state
        if steps is not None and state == "training":
            row.steps, row.last_time = steps, time.monotonic()
            if row.first_steps is None:
                row.first_steps, row.first_time = steps, time.monotonic()
        if loss is not None:
            row.loss = loss
        if not self._console.is_terminal and changed:
            self._log(f"{row.label}: {row.state}")

    def evaluated(self, trial: str | None, label: str, metrics: Mapping[str, float]) -> None:
        """Shows the metrics of a run that has ended: in the row of its trial, if it was one of this driver's."""
        if trial is not None and trial in self.rows:
            self.rows[trial].add(metrics, self._objectives)
        if not self._console.is_terminal:
            values = [f"{name} {written(name, metrics[name])}" for name in self._objectives if name in metrics]
            self._log(f"{label}: {', '.join(values)}")

    def _log(self, line: str) -> None:
        self._console.print(f"{datetime.now():%Y-%m-%d %H:%M:%S}  {line}", soft_wrap=True)

    def tick(self) -> None:
        """Redraws the table on a terminal, or prints a summary once a minute; called often."""
        now = time.monotonic()
        if now - self._counted >= COUNT_SECONDS:
            self._counts, self._counted = self._count(), now
        if self._console.is_terminal:
            self._live.refresh()
        elif now - self._summarised >= SUMMARY_SECONDS:
            self._log(self.summary())
            self._summarised = now

    def render(self) -> Group:
        """Returns the rows that fit the terminal and a summary of the whole sweep."""
        shown = self._shown()
        hidden = len(self.rows) - len(shown)
        more = [Text(f"and {hidden} more tasks", style="dim")] if hidden else []
        return Group(rows_table(shown, self._title, self._objectives), *more, Text(self.summary(), style="dim"))

    def _shown(self) -> list[Row]:
        """All rows if they fit; otherwise running tasks first, then failures, then finished tasks."""
        rows = list(self.rows.values())
        fitting = max(self._console.height - LINES_AROUND, 1)
        if len(rows) <= fitting:
            return rows
        urgency: dict[State, int] = {"starting": 0, "training": 0, "evaluating": 0, "failed": 1}
        return sorted(rows, key=lambda row: urgency.get(row.state, 2))[:fitting]

    def summary(self) -> str:
        """Returns one line: runs done, the source's note, the training time left."""
        counts = self._counts
        parts = [f"{counts.done} of {counts.known} runs done"]
        if counts.more:
            parts.append(counts.more)
        if self._over:
            return "  ·  ".join(parts)
        if (left := self.seconds_left()) is not None:
            parts.append(f"about {clock(left)} of training left")  # startup and evaluation come on top
        return "  ·  ".join([*parts, "Ctrl-C stops; the same command resumes"])

    def seconds_left(self) -> float | None:
        """Seconds of training left at the mean pace of this sweep's tasks; None until a step has been timed."""
        paces = self._paces + [row.pace for row in self.rows.values() if row.pace is not None]
        if not paces:
            return None
        return self._counts.steps * sum(paces) / len(paces) / self._slots


def rows_table(rows: list[Row], title: str, objectives: Sequence[str] = ("fid",)) -> Table:
    """Returns a table of tasks with their state, step, loss, ETA and objectives."""
    table = Table(title=Text(title), box=None, pad_edge=False, title_justify="left")
    for column in ("task", "state"):
        table.add_column(column)
    for column in ("step", "loss", "ETA", *objectives):
        table.add_column(column, justify="right")
    for row in rows:
        loss = "" if row.loss is None else f"{row.loss:.4f}"
        step = f"{row.steps}/{row.total_steps}" if row.steps else ""
        values = [found(row, name) for name in objectives]
        style = STYLES.get(row.state, "dim")
        table.add_row(Text(row.label), row.state, step, loss, clock(row.eta()), *values, style=style)
    return table


def found(row: Row, objective: str) -> str:
    """Formats a task's objective: `12.34`, or `12.34 (best of 9)` after nine evaluations; empty without a value."""
    if objective not in row.metrics:
        return ""
    several = f" (best of {row.evaluated})" if row.evaluated > 1 else ""
    return written(objective, row.metrics[objective]) + several
