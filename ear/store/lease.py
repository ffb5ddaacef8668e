"""Leases: who works on what. They save double work; correctness never rests on them."""

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

    def acquire(self) -> bool:
        """Whether it is ours now; does not wait."""
        if self._lock.is_locked:
            return False
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
        except Timeout:
            return False
        except OSError:
            return True
        return True

    def release(self) -> None:
        try:
            self._lock.release(force=True)
        except OSError:
            return

    def __enter__(self) -> "Lease":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()
