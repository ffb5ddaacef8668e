"""Leases on keys. They avoid duplicate work; correctness never depends on them."""

import time
from pathlib import Path
from types import TracebackType

from filelock import SoftFileLease, Timeout

LEASE_SECONDS = 60.0  # without renewal, after which others take over; at once from a process of this host that died


class Lease:
    """The right to work on one key, renewed by a thread while it is held.

    If the lease file can't be written (full disk, read-only folder), `acquire` succeeds: work is then unprotected.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = SoftFileLease(path, lease_duration=LEASE_SECONDS, thread_local=False)
        self._seen: tuple[int, int] | None = None  # the stamp of another holder's file at the last check
        self._since = 0.0  # when that stamp was first seen, by our monotonic clock

    def acquire(self) -> bool:
        """Try to acquire the lease without waiting. Returns whether it succeeded."""
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
        """Whether another holder's file has not changed for long, by our own clock.

        filelock takes over such a file by exchanging two names, which network file systems refuse. It never takes over
        an empty file, which a power failure leaves. So we remove the file once filelock has had time to take it over.
        """
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return False
        if self._seen != (seen := (status.st_mtime_ns, status.st_ino)):
            self._seen, self._since = seen, time.monotonic()
        return time.monotonic() - self._since > 1.5 * LEASE_SECONDS

    def release(self) -> None:
        """Release the lease; no error if that fails."""
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
