"""A job as it gets on: what its tasks print, and below it, on a terminal, how they stand."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.text import Text

from slurm.queue import TaskState, task_states
from slurm.states_table import states_table
from slurm.submission import JobRecord

QUEUE_POLL_SECONDS = 5.0  # to SLURM, which others ask as well
POLL_SECONDS = 0.5  # at the logs
OUR_WORD = "submitit "  # begins the lines with which submitit speaks of itself
ROWS = 12  # of the live table

States = Mapping[str, TaskState]  # by task


class Log:
    """A file that grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0

    def fresh_lines(self) -> list[str]:
        """Whole lines since the last call."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._read)
                text, newline, _ = file.read().rpartition(b"\n")
        except OSError:
            return []
        self._read += len(text) + len(newline)
        return text.decode(errors="replace").splitlines() if newline else []


def follow(record: JobRecord, console: Console, only: str | None = None, rank: int = 0) -> bool:
    """Shows it until all of the job is over, or the one member of its array; says whether all of it ended well.

    Raises:
        UserError: SLURM does not answer.
    """
    tasks = [only] if only else record.tasks
    logs = {task: Log(record.log(task, rank)) for task in tasks}
    with ExitStack() as stack:
        tell = stack.enter_context(in_sight(record, console)) if console.is_terminal else Changes(console)
        while True:
            states = task_states(tasks)
            tell(states)
            over = all(state.over for state in states.values())
            deadline = time.monotonic() + QUEUE_POLL_SECONDS
            while time.monotonic() < deadline:
                for task, log in logs.items():
                    prefix = f"{task}  " if len(logs) > 1 else ""
                    for line in log.fresh_lines():
                        if not line.startswith(OUR_WORD):
                            console.print(f"{prefix}{line}", highlight=False, markup=False, soft_wrap=True)
                if over:
                    return ended_well(states)
                time.sleep(POLL_SECONDS)


@contextmanager
def in_sight(record: JobRecord, console: Console) -> Iterator[Callable[[States], None]]:
    """A table of states that stays below what is printed; the last one remains."""
    with Live(console=console, auto_refresh=False) as live:
        yield lambda states: live.update(states_table([record], states, ROWS), refresh=True)


class Changes:
    """A line for every task whose state is another one."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._known: dict[str, str] = {}

    def __call__(self, states: States) -> None:
        for task, state in states.items():
            told = state.describe() if state.over or state.reason not in ("", "None") else state.state.lower()
            if self._known.get(task) != told:
                self._known[task] = told
                self._console.print(Text(task, "bold"), told)


def ended_well(states: States) -> bool:
    return not any(state.failed for state in states.values())
