"""The folder of a sweep under the output root: driver states, failures, logs, and the stop request.

ROOT/NAME/drivers/HOST-PID.json     the driver's state, rewritten every few seconds
ROOT/NAME/drivers/HOST-PID.alive    locked as long as the driver's process lives
ROOT/NAME/drivers/HOST-PID.stopping appears when the driver is stopping; its trials check for it
ROOT/NAME/failures/KEY.json         the last failure at a training node
ROOT/NAME/stop                      stops every driver that was started or submitted before this file was created
ROOT/NAME/logs/KEY.log              the output of a training node's trials
"""

import fcntl
import json
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from ear.errors import UserError
from ear.files.writing import require_writable
from slurm.stop_requests import request_stop
from sweeps.driver.task_progress import Row


@dataclass(frozen=True)
class Failure:
    """The final failure of a task, kept for `ear sweep status` after the driver has exited."""

    label: str
    runs: list[str]  # evaluation keys of the runs that failed with it
    log: str
    last_lines: list[str]


@dataclass(frozen=True)
class DriverState:
    """The state of a driver, for another process to read."""

    host: str
    pid: int
    started: str  # ISO 8601, UTC
    updated: str
    summary: str
    rows: list[Row] = field(default_factory=list)

    @classmethod
    def load(cls, path: Path) -> "DriverState":
        """Reads a state file.

        Raises:
            OSError, ValueError, TypeError: the file is missing or incomplete.
        """
        values = json.loads(path.read_text(encoding="utf-8"))
        values["rows"] = [Row(**row) for row in values["rows"]]
        return cls(**values)


class SweepFolder:
    """ROOT/NAME: all files of a sweep that are not in the store."""

    def __init__(self, root: Path, name: str) -> None:
        self.path = root.resolve() / name
        self.drivers = self.path / "drivers"
        self._failures = self.path / "failures"

    def log(self, key: str) -> Path:
        """Returns the log file of this training node's trials."""
        return self.path / "logs" / f"{key}.log"

    def failure_file(self, key: str) -> Path:
        """Returns the failure file of this training node."""
        return self._failures / f"{key}.json"

    def failures(self) -> list[Failure]:
        """Returns the failures whose task was not started again since."""
        found = []
        for path in sorted(self._failures.glob("*.json")):
            try:
                found.append(Failure(**json.loads(path.read_text(encoding="utf-8"))))
            except (OSError, ValueError, TypeError):  # removed just now, because the task was started again
                continue
        return found

    def require_known(self) -> None:
        """Checks that the sweep was run under this root before.

        Raises:
            UserError: it never was.
        """
        if not self.drivers.exists():
            raise UserError(
                f"The sweep {self.path.name!r} was never run under {self.path.parent}: start it with "
                "`ear sweep run FILE`, or name its root with --root."
            )

    def request_stop(self) -> None:
        """Asks all drivers of this sweep to stop.

        Raises:
            UserError: the output root does not exist, or can't be written.
        """
        if not self.path.parent.is_dir():
            raise UserError(
                f"There is no folder {self.path.parent}: name the sweep's root with --root DIR or EAR_ROOT."
            )
        require_writable(self.path)
        request_stop(self.path)

    def running(self) -> list[DriverState]:
        """Returns the drivers whose locks this machine sees as held; changes nothing."""
        found = []
        for lock in sorted(self.drivers.glob("*.alive")):
            if is_locked(lock):
                try:
                    found.append(DriverState.load(lock.with_suffix(".json")))
                except (OSError, ValueError, TypeError):  # the driver is just starting
                    continue
        return found

    def remove_dead(self) -> None:
        """Removes the files of dead drivers of this machine.

        Other machines' files stay: on some shared file systems their locks are invisible from here.
        """
        for lock in self.drivers.glob(f"{socket.gethostname()}-*.alive"):
            with suppress(Timeout, OSError), FileLock(lock, timeout=0):
                for left in self.drivers.glob(f"{lock.stem}.*"):
                    left.unlink(missing_ok=True)


def is_locked(path: Path) -> bool:
    """Whether a process holds this lock. Only reads, so it works in a read-only folder."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False
