"""The live state of a sweep's tasks, and how it looks in a terminal."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ear.terminal.console import terminal

State = Literal[
    "starting", "training", "evaluating", "finished", "stopped", "stopped early", "diverged", "retrying", "failed"
]
OVER: tuple[State, ...] = ("finished", "stopped", "stopped early", "diverged", "retrying", "failed")
SUMMARY_SECONDS = 60  # where no terminal shows them all the time
COUNT_SECONDS = 2.0
ROWS_KEPT = 200  # of tasks that are over
LINES_AROUND = 5  # of the terminal's height: the title, the head, what is not shown, the summary, the cursor
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


@dataclass
class Row:
    """A task that is, or was, worked on."""

    label: str
    total_steps: int
    state: State = "starting"
    steps: int = 0
    loss: float | None = None
    first_steps: int | None = None  # where training stood at its first report, and when that was
    first_time: float = 0.0
    last_time: float = 0.0  # of the last report

    @property
    def pace(self) -> float | None:
        """Seconds a step since the first report; None before there is a pace."""
        if self.first_steps is None or self.steps <= self.first_steps:
            return None
        return (self.last_time - self.first_time) / (self.steps - self.first_steps)

    def eta(self) -> float | None:
        """Seconds of training left at that pace."""
        return None if self.pace is None or self.state != "training" else self.pace * (self.total_steps - self.steps)


@dataclass(frozen=True)
class Counts:
    """Where a sweep stands as a whole."""

    done: int  # runs with their result
    known: int  # runs, as far as they are known: a search proposes more
    steps: int  # of training that are left of those known
    evaluations: int  # likewise
    more: str = ""  # what else there is to say: a search's best value


@contextmanager
def waiting_for(what: str) -> Iterator[None]:
    """A spinner with these words on a terminal, a line elsewhere: what takes seconds says that it does."""
    console = terminal(stderr=True)
    if console.is_terminal:
        with console.status(Text(what)):
            yield
    else:
        console.print(f"{what} ...", soft_wrap=True)
        yield


class ProgressTable:
    """Rows of tasks: redrawn in place on a terminal; elsewhere a line for each change and a summary every minute."""

    def __init__(self, title: str, slots: int, count: Callable[[], Counts]) -> None:
        """`slots` is how many tasks are worked on at a time; `count` is asked every few seconds."""
        self.rows: dict[str, Row] = {}  # by trial
        self._title = title
        self._slots = slots
        self._count = count
        self._counts = count()
        self._counted = time.monotonic()
        self._paces: list[float] = []  # seconds a step, of tasks that are over
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
        self.rows[trial] = Row(label, total_steps)
        over = [key for key, row in self.rows.items() if row.state in OVER]
        for key in over[: max(0, len(over) - ROWS_KEPT)]:
            del self.rows[key]

    def update(self, trial: str, state: State, steps: int | None = None, loss: float | None = None) -> None:
        """Takes in what a trial reported."""
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
        """Called often: brings the terminal up to date, or a log once a minute."""
        now = time.monotonic()
        if now - self._counted >= COUNT_SECONDS:
            self._counts, self._counted = self._count(), now
        if self._console.is_terminal:
            self._live.refresh()
        elif now - self._summarised >= SUMMARY_SECONDS:
            self._console.print(self.summary(), soft_wrap=True)
            self._summarised = now

    def render(self) -> Group:
        """State, step, loss and ETA of the tasks that fit the terminal, and a summary of all."""
        shown = self._shown()
        hidden = len(self.rows) - len(shown)
        more = [Text(f"and {hidden} more tasks", style="dim")] if hidden else []
        return Group(rows_table(shown, self._title), *more, Text(self.summary(), style="dim"))

    def _shown(self) -> list[Row]:
        """All rows where they fit; else those at work first, then failures, then what is done."""
        rows = list(self.rows.values())
        fitting = max(self._console.height - LINES_AROUND, 1)
        if len(rows) <= fitting:
            return rows
        urgency: dict[State, int] = {"starting": 0, "training": 0, "evaluating": 0, "failed": 1}
        return sorted(rows, key=lambda row: urgency.get(row.state, 2))[:fitting]

    def summary(self) -> str:
        counts = self._counts
        parts = [f"{counts.done} of {counts.known} runs have their result"]
        if counts.more:
            parts.append(counts.more)
        if (left := self.seconds_left()) is not None:
            parts.append(f"about {clock(left)} of training left")  # starting and evaluating come on top
        return "  ·  ".join([*parts, "Ctrl-C stops; the same command goes on"])

    def seconds_left(self) -> float | None:
        """Of training, at the pace of this sweep's tasks; None before there is a pace."""
        paces = self._paces + [row.pace for row in self.rows.values() if row.pace is not None]
        if not paces:
            return None
        return self._counts.steps * sum(paces) / len(paces) / self._slots


def rows_table(rows: list[Row], title: str) -> Table:
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


def clock(seconds: float | None) -> str:
    """1:05, 2:03:04; nothing for None."""
    if seconds is None:
        return ""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
