"""A job as it gets on: its state when that changes, and what its first task prints."""

import time
from pathlib import Path

from rich.console import Console

from slurm.queue import TaskState, task_states
from slurm.submission import JobRecord

SECONDS_BETWEEN_QUESTIONS = 5.0  # to SLURM, which others ask as well
SECONDS_BETWEEN_LOOKS = 0.5  # at the logs
OUR_WORD = "submitit "  # begins the lines with which submitit speaks of itself


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
    """Prints until all of the job is over, or the one member of its array; says whether all of it ended well.

    Raises:
        UserError: SLURM does not answer.
    """
    tasks = [only] if only else record.tasks
    logs = {task: Log(record.log(task, rank)) for task in tasks}
    known: dict[str, str] = {}
    while True:
        states = task_states(tasks)
        deadline = time.monotonic() + SECONDS_BETWEEN_QUESTIONS
        for task, state in states.items():
            told = state.describe() if state.over or state.reason not in ("", "None") else state.state.lower()
            if known.get(task) != told:
                known[task] = told
                console.print(f"[bold]{task}[/] {told}", highlight=False)
        over = all(state.over for state in states.values())
        while time.monotonic() < deadline:
            for task, log in logs.items():
                for line in log.fresh_lines():
                    if not line.startswith(OUR_WORD):
                        prefix = f"{task}  " if len(logs) > 1 else ""
                        console.print(f"{prefix}{line}", highlight=False, markup=False, soft_wrap=True)
            if over:
                return ended_well(states)
            time.sleep(SECONDS_BETWEEN_LOOKS)


def ended_well(states: dict[str, TaskState]) -> bool:
    return not any(state.failed for state in states.values())
