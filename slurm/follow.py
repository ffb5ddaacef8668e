"""Follows a job: prints its tasks' logs as they grow and, on a terminal, a live table of their states."""

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

QUEUE_POLL_SECONDS = 5.0  # between two queries of SLURM, which all users share
POLL_SECONDS = 0.5  # between two reads of the logs
SUBMITIT_PREFIX = "submitit "  # start of submitit's own log lines
ROWS = 12  # in the live table

States = Mapping[str, TaskState]  # by task


class Log:
    """A log file that is read while it grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0

    def fresh_lines(self) -> list[str]:
        """Returns the complete lines that were added since the last call."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._read)
                text, newline, _ = file.read().rpartition(b"\n")
        except OSError:
            return []
        self._read += len(text) + len(newline)
        return text.decode(errors="replace").splitlines() if newline else []


def follow(record: JobRecord, console: Console, only: str | None = None, rank: int = 0) -> bool:
    """Follows a job, or `only` one member of its array, until it ends.

    Returns:
        Whether no task failed.

    Raises:
        UserError: SLURM does not respond.
    """
    tasks = [only] if only else record.tasks
    logs = {task: Log(record.log(task, rank)) for task in tasks}
    with ExitStack() as stack:
        tell = stack.enter_context(live_table(record, console)) if console.is_terminal else Changes(console)
        while True:
            states = task_states(tasks)
            tell(states)
            over = all(state.over for state in states.values())
            deadline = time.monotonic() + QUEUE_POLL_SECONDS
            while time.monotonic() < deadline:
                for task, log in logs.items():
                    prefix = f"{task}  " if len(logs) > 1 else ""
                    for line in log.fresh_lines():
                        if not line.startswith(SUBMITIT_PREFIX):
                            console.print(f"{prefix}{line}", highlight=False, markup=False, soft_wrap=True)
                if over:
                    return ended_well(states)
                time.sleep(POLL_SECONDS)


@contextmanager
def live_table(record: JobRecord, console: Console) -> Iterator[Callable[[States], None]]:
    """Keeps a table of states below the printed lines; yields the function that updates it."""
    with Live(console=console, auto_refresh=False) as live:
        yield lambda states: live.update(states_table([record], states, ROWS), refresh=True)


class Changes:
    """Prints a line for every task whose state has changed; used where the output is no terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._known: dict[str, str] = {}

    def __call__(self, states: States) -> None:
        """Prints what has changed since the last call."""
        for task, state in states.items():
            told = state.describe() if state.over or state.reason not in ("", "None") else state.state.lower()
            if self._known.get(task) != told:
                self._known[task] = told
                self._console.print(Text(task, "bold"), told)


def ended_well(states: States) -> bool:
    """Whether no task failed."""
    return not any(state.failed for state in states.values())
