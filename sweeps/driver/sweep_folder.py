"""What a driver leaves in the output root while it works: who it is, where it stands, and whether it is to stop.

ROOT/NAME/drivers/HOST-PID.json     where it stands, rewritten every few seconds
ROOT/NAME/drivers/HOST-PID.alive    locked for as long as the process lives, however it ends
ROOT/NAME/drivers/HOST-PID.stopping appears when it is about to end: its trials look for it
ROOT/NAME/failures/KEY.json         what failed at a training node when it was tried last
ROOT/NAME/stop                      asks all drivers to stop that began, or were submitted, before it was made
ROOT/NAME/logs/KEY.log              what the trials of a training node printed
"""

import fcntl
import json
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from ear.errors import UserError
from slurm.stopping import request_stop
from sweeps.driver.progress_table import Row

WRITE_SECONDS = 2.0
LOG_LINES = 5  # of a failed task's log, in what `ear sweep status` shows


@dataclass(frozen=True)
class Failure:
    """Of a task, in the end: for those who look when its driver is gone."""

    label: str
    runs: list[str]  # that failed with it, by evaluation key
    log: str
    last_lines: list[str]


@dataclass(frozen=True)
class DriverState:
    """Where a driver stands, for another process to read."""

    host: str
    pid: int
    started: str  # ISO 8601, UTC
    updated: str
    summary: str
    rows: list[Row] = field(default_factory=list)

    @classmethod
    def load(cls, path: Path) -> "DriverState":
        values = json.loads(path.read_text(encoding="utf-8"))
        values["rows"] = [Row(**row) for row in values["rows"]]
        return cls(**values)


class SweepFolder:
    """ROOT/NAME: everything of a sweep that is not in the store."""

    def __init__(self, root: Path, name: str) -> None:
        self.path = root.resolve() / name
        self.drivers = self.path / "drivers"
        self._failures = self.path / "failures"

    def log(self, key: str) -> Path:
        """What the trials of this training node printed."""
        return self.path / "logs" / f"{key}.log"

    def failure_file(self, key: str) -> Path:
        return self._failures / f"{key}.json"

    def failures(self) -> list[Failure]:
        """What failed and was not begun again."""
        found = []
        for path in sorted(self._failures.glob("*.json")):
            try:
                found.append(Failure(**json.loads(path.read_text(encoding="utf-8"))))
            except (OSError, ValueError, TypeError):  # begun again at this moment
                continue
        return found

    def require_known(self) -> None:
        """
        Raises:
            UserError: no driver ever worked on the sweep here.
        """
        if not self.drivers.exists():
            raise UserError(
                f"The sweep {self.path.name!r} was never run under {self.path.parent}: begin with `ear sweep run FILE` "
                "or name its root with --root."
            )

    def request_stop(self) -> None:
        request_stop(self.path)

    def running(self) -> list[DriverState]:
        """The drivers that are alive, as far as can be seen from here; changes nothing."""
        found = []
        for lock in sorted(self.drivers.glob("*.alive")):
            if is_locked(lock):
                try:
                    found.append(DriverState.load(lock.with_suffix(".json")))
                except (OSError, ValueError, TypeError):  # just being made
                    continue
        return found

    def remove_dead(self) -> None:
        """Removes what dead drivers of this machine left.

        Not another machine's: there are shared folders in which its lock can't be seen from here.
        """
        for lock in self.drivers.glob(f"{socket.gethostname()}-*.alive"):
            with suppress(Timeout, OSError), FileLock(lock, timeout=0):
                for left in self.drivers.glob(f"{lock.stem}.*"):
                    left.unlink(missing_ok=True)


def is_locked(path: Path) -> bool:
    """Whether a process holds this lock; looks without writing, as one must in a read-only folder."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False
