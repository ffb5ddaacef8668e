"""Sweeps that share a name and are not the same: a grid whose YAML was changed, and what it was before."""

import warnings
from contextlib import suppress

from ear.errors import UserError
from ear.store import Store
from ear.store.uses import recorded_uses
from sweeps.spec.identity import SweepIdentity, user_of


def warn_of_namesakes(identity: SweepIdentity, store: Store) -> None:
    """Says, before a sweep begins for the first time, that another one had its name."""
    with suppress(UserError):  # a damaged record, as `ear store` says: this sweep does not need it
        users = {use.user for use in recorded_uses(store) if use.is_of(user_of(identity.name))}
        if users - {identity.user, user_of(identity.name)} and identity.user not in users:
            warnings.warn(
                f"{identity.source}: another sweep has had the name {identity.name}, with other runs. What both have "
                f"in common is not computed again, and both keep their results; `ear report {identity.name}` shows the "
                "one that ran last. Give this one another name to report both.",
                stacklevel=2,
            )
