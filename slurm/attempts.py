"""How often a job was begun, and whether that led anywhere."""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from ear.files.writing import write_json
from slurm.progress import Progress


@dataclass(frozen=True)
class Attempt:
    began: str  # ISO 8601, UTC
    node: str
    progress: Progress  # when it began


class FruitlessError(RuntimeError):
    """Beginning once more would lead nowhere again."""


class Attempts:
    """Kept in a file beside the job, since neither a plain requeue nor a killed process passes anything on."""

    def __init__(self, path: Path, most_fruitless: int) -> None:
        self._path = path
        self._most_fruitless = most_fruitless

    def all(self) -> list[Attempt]:
        try:
            values = json.loads(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return []
        return [Attempt(each["began"], each["node"], Progress(**each["progress"])) for each in values]

    def forget_last(self) -> None:
        """The last one had nothing to do, which is no fault of anybody's."""
        write_json(self._path, [asdict(attempt) for attempt in self.all()[:-1]])

    def begin(self, node: str, progress: Progress) -> None:
        """
        Raises:
            FruitlessError: the last ones all began where this one does.
        """
        attempts = self.all()
        fruitless = 0
        for attempt in reversed(attempts):
            if attempt.progress != progress:
                break
            fruitless += 1
        if fruitless > self._most_fruitless:
            raise FruitlessError(
                f"Begun {fruitless} times without any progress in between, the last time at {attempts[-1].began} on "
                f"{attempts[-1].node}: not begun again. If the time limit is too short for one checkpoint or one "
                "evaluation, raise the profile's hours or lower execution.checkpoint_every; then give the same command."
            )
        began = datetime.now(UTC).isoformat(timespec="seconds")
        write_json(self._path, [asdict(attempt) for attempt in [*attempts, Attempt(began, node, progress)]])
