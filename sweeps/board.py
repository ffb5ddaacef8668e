"""The live state of a sweep's trials, and how it looks in a terminal."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

State = Literal["pending", "training", "evaluating", "evaluated", "diverged", "failed", "stopped"]
OVER: tuple[State, ...] = ("evaluated", "diverged", "failed")
SECONDS_BETWEEN_SUMMARIES = 60  # where no terminal shows them all the time
LINES_AROUND = 5  # of the terminal's height: the title, the head, what is not shown, the summary, the cursor
STYLES = {"training": "cyan", "evaluating": "cyan", "evaluated": "green", "diverged": "yellow", "failed": "red"}


@dataclass
class Row:
    label: str
    total_steps: int
    state: State = "pending"
    steps: int = 0
    loss: float | None = None
    first_steps: int | None = None  # where this trial stood when it reported first, and when that was
    first_time: float = 0.0

    def eta(self, now: float) -> float | None:
        """Seconds of training left at the pace since the first report; None before there is a pace."""
        if self.first_steps is None or self.steps <= self.first_steps or self.state != "training":
            return None
        return (now - self.first_time) / (self.steps - self.first_steps) * (self.total_steps - self.steps)


@contextmanager
def waiting_for(what: str) -> Iterator[None]:
    """A spinner with these words on a terminal, a line elsewhere: what takes seconds says that it does."""
    console = Console(stderr=True)
    if console.is_terminal:
        with console.status(what):
            yield
    else:
        console.print(f"{what} ...", highlight=False, soft_wrap=True)
        yield


class Board:
    """Rows of trials: redrawn in place on a terminal; elsewhere a line for each change and a summary every minute."""

    def __init__(self, title: str, rows: dict[str, Row], concurrency: int, done_before: int) -> None:
        """`rows` by trial key; `done_before` trials had their results before this sweep began."""
        self.rows = rows
        self._title = title
        self._concurrency = concurrency
        self._done_before = done_before
        self._console = Console(stderr=True)
        self._summarised = time.monotonic()
        self._live = Live(get_renderable=self.render, console=self._console, refresh_per_second=2)

    def __enter__(self) -> "Board":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def update(self, key: str, state: State, steps: int | None = None, loss: float | None = None) -> None:
        """Takes in what a trial reported."""
        row = self.rows[key]
        changed = state != row.state
        row.state = state
        if steps is not None:
            row.steps = steps
            if row.first_steps is None:
                row.first_steps, row.first_time = steps, time.monotonic()
        if loss is not None:
            row.loss = loss
        if not self._console.is_terminal:
            self._log(row, changed)

    def _log(self, row: Row, changed: bool) -> None:
        now = time.monotonic()
        if changed:
            self._console.print(f"{row.label}: {row.state}", highlight=False, soft_wrap=True)
        if now - self._summarised >= SECONDS_BETWEEN_SUMMARIES:
            self._console.print(self._summary(now), highlight=False, soft_wrap=True)
            self._summarised = now

    def render(self) -> Group:
        """State, step, loss and ETA of the trials that fit the terminal, and a summary of all."""
        now = time.monotonic()
        table = Table(title=self._title, box=None, pad_edge=False, title_justify="left")
        table.add_column("trial")
        table.add_column("state")
        for column in ("step", "loss", "ETA"):
            table.add_column(column, justify="right")
        shown = self._shown()
        for row in shown:
            loss = "" if row.loss is None else f"{row.loss:.4f}"
            step = f"{row.steps}/{row.total_steps}" if row.steps else ""
            table.add_row(row.label, row.state, step, loss, clock(row.eta(now)), style=STYLES.get(row.state, "dim"))
        hidden = len(self.rows) - len(shown)
        more = [Text(f"and {hidden} more trials", style="dim")] if hidden else []
        return Group(table, *more, Text(self._summary(now), style="dim"))

    def _shown(self) -> list[Row]:
        """All rows where they fit; else those at work first, then failures, then what waits, then what is done."""
        rows = list(self.rows.values())
        fitting = max(self._console.height - LINES_AROUND, 1)
        if len(rows) <= fitting:
            return rows
        urgency: dict[State, int] = {"training": 0, "evaluating": 0, "failed": 1, "pending": 2}
        return sorted(rows, key=lambda row: urgency.get(row.state, 3))[:fitting]

    def _summary(self, now: float) -> str:
        over = sum(row.state in OVER for row in self.rows.values())
        parts = [f"{over + self._done_before}/{len(self.rows) + self._done_before} trials have their result"]
        paces = [row.eta(now) or 0 for row in self.rows.values() if row.eta(now) is not None]
        rates = [
            (now - row.first_time) / (row.steps - row.first_steps)
            for row in self.rows.values()
            if row.first_steps is not None and row.steps > row.first_steps
        ]
        waiting = [row.total_steps for row in self.rows.values() if row.state == "pending"]
        if rates:
            # Training only; starting processes and evaluating come on top.
            left = (sum(paces) + sum(waiting) * sum(rates) / len(rates)) / self._concurrency
            parts.append(f"about {clock(max([left, *paces]))} of training left")
        parts.append("Ctrl-C stops; the same command goes on")
        return "  ·  ".join(parts)


def clock(seconds: float | None) -> str:
    """1:05, 2:03:04; nothing for None."""
    if seconds is None:
        return ""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
