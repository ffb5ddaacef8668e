"""Checks that no process is using a store, before results that others may need are changed."""

from pathlib import Path

from ear.errors import UserError
from ear.files.lease import LEASE_SECONDS
from ear.files.writing import require_writable, time_in
from ear.store.store import LEASES, Store


def require_unused(store: Store, then: str) -> None:
    """Refuse to continue while a process is using the store.

    Args:
        then: the verb for what can be done once it has stopped.

    Raises:
        UserError: a process holds a lease, or the store can't be written, so that leases can't be checked.
    """
    require_writable(store.work / LEASES)
    for path in (store.work / LEASES).glob("*.lease"):
        if _lapsed(path):
            continue
        with store.lease(path.stem) as lease:
            if not lease.acquire():
                raise UserError(f"A process is using {store.folder} ({path.name}): stop it, then {then}.")


def _lapsed(lease: Path) -> bool:
    """Whether the lease belongs to a machine that is gone, or was released in the meantime."""
    try:
        return time_in(lease.parent) - lease.stat().st_mtime > 2 * LEASE_SECONDS
    except FileNotFoundError:
        return True
