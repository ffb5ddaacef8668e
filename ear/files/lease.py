"""Leases: who works on what. They save double work; correctness never rests on them."""

import time
from pathlib import Path
from types import TracebackType

from filelock import SoftFileLease, Timeout

LEASE_SECONDS = 60.0  # without a sign of life, after which others take over; a dead process of this host: at once


class Lease:
    """The right to work on one key, renewed by a thread for as long as it is held.

    A folder that does not let leases be written (full, read-only) stops nobody: work is then merely unprotected.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = SoftFileLease(path, lease_duration=LEASE_SECONDS, thread_local=False)
        self._seen: tuple[int, int] | None = None  # another's file as it was at our last look, and since when
        self._since = 0.0

    def acquire(self) -> bool:
        """Whether it is ours now; does not wait."""
        if self._lock.is_locked:
            return False
        try:
            if self._lapsed():
                self._path.unlink(missing_ok=True)
            self._lock.acquire(timeout=0)
        except Timeout:
            return False
        except OSError:
            return True
        return True

    def _lapsed(self) -> bool:
        """Whether another's file stood still for long, by our own clock.

        filelock takes such a file over by exchanging two names, which network file systems refuse, and never an empty
        one, as a machine leaves that loses its power. So it is removed once filelock would have had its turn.
        """
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return False
        if self._seen != (seen := (status.st_mtime_ns, status.st_ino)):
            self._seen, self._since = seen, time.monotonic()
        return time.monotonic() - self._since > 1.5 * LEASE_SECONDS

    def release(self) -> None:
        try:
            self._lock.release()
        except OSError:
            return

    def __enter__(self) -> "Lease":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()
