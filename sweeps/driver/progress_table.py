"""The live display of a sweep's tasks in a terminal."""

import time
from collections.abc import Callable

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ear.terminal.console import terminal
from ear.terminal.units import clock
from sweeps.driver.task_progress import OVER, Counts, Row, State

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

    def __init__(self, title: str, slots: int, count: Callable[[], Counts]) -> None:
        """Creates the table of a sweep that runs `slots` tasks at a time; it calls `count` every few seconds."""
        self.rows: dict[str, Row] = {}  # by trial
        self._title = title
        self._slots = slots
        self._count = count
        self._counts = count()
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
        if self._console.is_terminal:
            self._live.stop()

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
            self._console.print(f"{row.label}: {row.state}", soft_wrap=True)

    def tick(self) -> None:
        """Redraws the table on a terminal, or prints a summary once a minute; called often."""
        now = time.monotonic()
        if now - self._counted >= COUNT_SECONDS:
            self._counts, self._counted = self._count(), now
        if self._console.is_terminal:
            self._live.refresh()
        elif now - self._summarised >= SUMMARY_SECONDS:
            self._console.print(self.summary(), soft_wrap=True)
            self._summarised = now

    def render(self) -> Group:
        """Returns the rows that fit the terminal and a summary of the whole sweep."""
        shown = self._shown()
        hidden = len(self.rows) - len(shown)
        more = [Text(f"and {hidden} more tasks", style="dim")] if hidden else []
        return Group(rows_table(shown, self._title), *more, Text(self.summary(), style="dim"))

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
        if (left := self.seconds_left()) is not None:
            parts.append(f"about {clock(left)} of training left")  # startup and evaluation come on top
        return "  ·  ".join([*parts, "Ctrl-C stops; the same command resumes"])

    def seconds_left(self) -> float | None:
        """Seconds of training left at the mean pace of this sweep's tasks; None until a step has been timed."""
        paces = self._paces + [row.pace for row in self.rows.values() if row.pace is not None]
        if not paces:
            return None
        return self._counts.steps * sum(paces) / len(paces) / self._slots


def rows_table(rows: list[Row], title: str) -> Table:
    """Returns a table of tasks with their state, step, loss and ETA."""
    table = Table(title=Text(title), box=None, pad_edge=False, title_justify="left")
    for column in ("task", "state"):
        table.add_column(column)
    for column in ("step", "loss", "ETA"):
        table.add_column(column, justify="right")
    for row in rows:
        loss = "" if row.loss is None else f"{row.loss:.4f}"
        step = f"{row.steps}/{row.total_steps}" if row.steps else ""
        table.add_row(Text(row.label), row.state, step, loss, clock(row.eta()), style=STYLES.get(row.state, "dim"))
    return table
