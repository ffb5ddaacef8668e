"""Counts a job's attempts, and stops a job that is restarted without making progress."""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from ear.files.writing import write_json
from slurm.progress import Progress


@dataclass(frozen=True)
class Attempt:
    """One start of a job."""

    began: str  # ISO 8601, UTC
    node: str
    progress: Progress  # at the start


class FruitlessError(RuntimeError):
    """Raised when restarting would make no progress."""


class Attempts:
    """The attempts of a job, kept in a file, because a requeue or a killed process passes nothing on."""

    def __init__(self, path: Path, most_fruitless: int) -> None:
        self._path = path
        self._most_fruitless = most_fruitless

    def all(self) -> list[Attempt]:
        """Returns all attempts, oldest first."""
        try:
            values = json.loads(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return []
        return [Attempt(each["began"], each["node"], Progress(**each["progress"])) for each in values]

    def forget_last(self) -> None:
        """Removes the last attempt, because it had nothing to do and must not count as fruitless."""
        write_json(self._path, [asdict(attempt) for attempt in self.all()[:-1]])

    def begin(self, node: str, progress: Progress) -> None:
        """Records a new attempt.

        Raises:
            FruitlessError: too many attempts in a row, including this one, started with the same progress.
        """
        attempts = self.all()
        fruitless = 0
        for attempt in reversed(attempts):
            if attempt.progress != progress:
                break
            fruitless += 1
        if fruitless > self._most_fruitless:
            raise FruitlessError(
                f"Started {fruitless} times without any progress, the last time at {attempts[-1].began} on "
                f"{attempts[-1].node}: not started again. If the time limit is too short for one checkpoint or one "
                "evaluation, raise the profile's hours or lower execution.checkpoint_every, and run the same command."
            )
        began = datetime.now(UTC).isoformat(timespec="seconds")
        write_json(self._path, [asdict(attempt) for attempt in [*attempts, Attempt(began, node, progress)]])
