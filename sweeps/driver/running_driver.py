"""This driver as other processes see it: that it is alive, how far it is, whether it must stop."""

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
from slurm.stop_requests import is_another, last_stop
from sweeps.driver.progress_table import ProgressTable
from sweeps.driver.sweep_folder import DriverState, Failure, SweepFolder

WRITE_SECONDS = 2.0  # between two writes of the state file
LOG_LINES = 5  # last lines of a failed task that `ear sweep status` shows


class RunningDriver:
    """This process as a driver of a sweep: its lock, state file, failures and stop requests."""

    def __init__(self, folder: SweepFolder) -> None:
        self.folder = folder
        self._name = f"{socket.gethostname()}-{os.getpid()}"
        self._started = datetime.now(UTC)
        self._last_stop = os.environ.get(LAST_STOP, last_stop(folder.path, afresh=True))
        self._written = 0.0
        self.stopping = folder.drivers / f"{self._name}.stopping"

    @contextmanager
    def opened(self) -> Iterator["RunningDriver"]:
        """Locks the driver's `.alive` file while the context lasts, and removes the driver's files at the end.

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
        """Whether `ear sweep stop` was called after this driver was started or its job submitted."""
        try:
            return is_another(last_stop(self.folder.path), self._last_stop)
        except UserError:  # the file server is unavailable for a moment
            return False

    def others_running(self) -> bool:
        """Whether other drivers of this sweep are running."""
        return any((driver.host, driver.pid) != (socket.gethostname(), os.getpid()) for driver in self.folder.running())

    def begin(self, key: str) -> None:
        """Clears the recorded failure of a training node that is tried (again)."""
        with suppress(OSError):
            self.folder.failure_file(key).unlink()

    def fail(self, label: str, key: str, runs: list[str], traceback: str) -> None:
        """Records the final failure of a task, for `ear sweep status`."""
        lines = traceback.strip().splitlines()[-LOG_LINES:]
        with suppress(OSError):
            write_json(self.folder.failure_file(key), asdict(Failure(label, runs, str(self.folder.log(key)), lines)))

    def write(self, table: ProgressTable) -> None:
        """Writes the state file at most every `WRITE_SECONDS`; tolerates a full disk."""
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
