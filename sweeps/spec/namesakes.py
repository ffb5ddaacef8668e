"""Detects different sweeps of one name, such as a grid before and after its YAML was changed."""

import warnings
from contextlib import suppress

from ear.errors import UserError
from ear.store import Store
from ear.store.uses import recorded_uses
from sweeps.spec.identity import SweepIdentity, user_of


def warn_of_namesakes(identity: SweepIdentity, store: Store) -> None:
    """Warns, before the first run of a sweep, if another sweep has used its name."""
    with suppress(UserError):  # a damaged record, which `ear store` reports: this sweep does not need it
        users = {use.user for use in recorded_uses(store) if use.is_of(user_of(identity.name))}
        if users - {identity.user, user_of(identity.name)} and identity.user not in users:
            warnings.warn(
                f"{identity.source}: another sweep with other runs has already used the name {identity.name}. Both "
                f"keep their results and share what they have in common; `ear report {identity.name}` shows the "
                "one that ran last. Give this one another name to report both.",
                stacklevel=2,
            )
