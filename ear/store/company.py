"""Whether anybody works on a store, for who is about to change what others rest on."""

from ear.errors import UserError
from ear.files import time_in
from ear.lease import LEASE_SECONDS
from ear.store.store import LEASES, Store


def refuse_company(store: Store, then: str) -> None:
    """
    Args:
        then: what can be done when they have stopped, as a verb.

    Raises:
        UserError: somebody works on it.
    """
    for path in (store.work / LEASES).glob("*.lease"):
        if time_in(path.parent) - path.stat().st_mtime > 2 * LEASE_SECONDS:
            continue  # of a machine that is gone
        with store.lease(path.stem) as lease:
            if not lease.acquire():
                raise UserError(f"Somebody works on {store.folder} ({path.name}): stop it, then {then}.")
