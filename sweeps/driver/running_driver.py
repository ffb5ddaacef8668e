"""This driver as others see it: alive, how far it is, whether it is to stop."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime

from filelock import FileLock

from ear.errors import UserError
from ear.files.writing import require_writable, write_json
from slurm.allocation import LAST_STOP
from slurm.stopping import is_another, last_stop
from sweeps.driver.progress_table import ProgressTable
from sweeps.driver.sweep_folder import LOG_LINES, DriverState, Failure, SweepFolder

WRITE_SECONDS = 2.0  # between two states


class RunningDriver:
    """A driver at work on a sweep."""

    def __init__(self, folder: SweepFolder) -> None:
        self.folder = folder
        self._name = f"{socket.gethostname()}-{os.getpid()}"
        self._started = datetime.now(UTC)
        self._last_stop = os.environ.get(LAST_STOP, last_stop(folder.path, afresh=True))
        self._written = 0.0
        self.stopping = folder.drivers / f"{self._name}.stopping"

    @contextmanager
    def opened(self) -> Iterator["RunningDriver"]:
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

    def write(self, table: ProgressTable) -> None:
        """Brings the state up to date, every few seconds; a disk that is full is no reason to end."""
        if time.monotonic() - self._written < WRITE_SECONDS:
            return
        self._written = time.monotonic()
        state = DriverState(
            host=socket.gethostname(),
            pid=os.getpid(),
            started=self._started.isoformat(timespec="seconds"),
            updated=datetime.now(UTC).isoformat(timespec="seconds"),
            summary=table.summary(),
            rows=list(table.rows.values())[-50:],
        )
        try:
            write_json(self.folder.drivers / f"{self._name}.json", asdict(state))
        except OSError:
            return
