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
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from ear.errors import UserError
from ear.files.writing import require_writable, write_json
from slurm.allocation import LAST_STOP
from slurm.stopping import is_another, last_stop, request_stop
from sweeps.driver.progress_table import Board, Row

SECONDS_BETWEEN_WRITES = 2.0
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


class Session:
    """A driver at work on a sweep."""

    def __init__(self, folder: SweepFolder) -> None:
        self.folder = folder
        self._name = f"{socket.gethostname()}-{os.getpid()}"
        self._started = datetime.now(UTC)
        self._last_stop = os.environ.get(LAST_STOP, last_stop(folder.path, afresh=True))
        self._written = 0.0
        self.stopping = folder.drivers / f"{self._name}.stopping"

    @contextmanager
    def opened(self) -> Iterator["Session"]:
        """
        Raises:
            UserError: the sweep's folder can't be written.
        """
        require_writable(self.folder.drivers)
        self.folder.remove_dead()
        try:
            with FileLock(self.folder.drivers / f"{self._name}.alive"):
                yield self
        finally:
            for suffix in ("json", "alive", "stopping"):
                with suppress(OSError):
                    (self.folder.drivers / f"{self._name}.{suffix}").unlink()

    def stop_requested(self) -> bool:
        """Whether `ear sweep stop` was called since this driver began, or its job was submitted."""
        try:
            return is_another(last_stop(self.folder.path), self._last_stop)
        except UserError:  # a file server that is away for a moment
            return False

    def has_company(self) -> bool:
        """Whether another driver of this sweep is alive."""
        return any((driver.host, driver.pid) != (socket.gethostname(), os.getpid()) for driver in self.folder.running())

    def begin(self, key: str) -> None:
        """Something is tried (again) at this training node."""
        with suppress(OSError):
            self.folder.failure_file(key).unlink()

    def fail(self, label: str, key: str, runs: list[str], traceback: str) -> None:
        """Keeps a failure for whoever asks for the status, in the end or now."""
        lines = traceback.strip().splitlines()[-LOG_LINES:]
        with suppress(OSError):
            write_json(self.folder.failure_file(key), asdict(Failure(label, runs, str(self.folder.log(key)), lines)))

    def write(self, board: Board) -> None:
        """Brings the state up to date, every few seconds; a disk that is full is no reason to end."""
        if time.monotonic() - self._written < SECONDS_BETWEEN_WRITES:
            return
        self._written = time.monotonic()
        state = DriverState(
            host=socket.gethostname(),
            pid=os.getpid(),
            started=self._started.isoformat(timespec="seconds"),
            updated=datetime.now(UTC).isoformat(timespec="seconds"),
            summary=board.summary(),
            rows=list(board.rows.values())[-50:],
        )
        try:
            write_json(self.folder.drivers / f"{self._name}.json", asdict(state))
        except OSError:
            return
