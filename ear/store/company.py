"""Whether anybody works on a store, for who is about to change what others rest on."""

from pathlib import Path

from ear.errors import UserError
from ear.files.lease import LEASE_SECONDS
from ear.files.writing import require_writable, time_in
from ear.store.store import LEASES, Store


def refuse_company(store: Store, then: str) -> None:
    """
    Args:
        then: what can be done when they have stopped, as a verb.

    Raises:
        UserError: somebody works on it, or nobody can tell, since it can't be written.
    """
    require_writable(store.work / LEASES)
    for path in (store.work / LEASES).glob("*.lease"):
        if _lapsed(path):
            continue
        with store.lease(path.stem) as lease:
            if not lease.acquire():
                raise UserError(f"Somebody works on {store.folder} ({path.name}): stop it, then {then}.")


def _lapsed(lease: Path) -> bool:
    """Whether it is of a machine that is gone, or released meanwhile."""
    try:
        return time_in(lease.parent) - lease.stat().st_mtime > 2 * LEASE_SECONDS
    except FileNotFoundError:
        return True
