"""Records which results are needed, so that `ear store gc` keeps them.

    ROOT/store/.uses/NAME.json    {"user": ..., "updated": ..., "keys": [...]}

A user is a sweep, a training, an evaluation or a report. Sweeps with the same name are separate users:
`sweep NAME/HASH`. A record names the results that its user needs, including those that do not exist yet; the results
that these depend on are known from their entries.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ear.config.hashing import digest
from ear.errors import UserError
from ear.files.writing import write_json
from ear.store.store import Store


@dataclass(frozen=True)
class Use:
    """The results that one user needs."""

    user: str
    updated: str  # ISO 8601, UTC
    keys: frozenset[str]
    path: Path

    def is_of(self, user: str) -> bool:
        """Whether this is `user`, or one of the sweeps with that name: `sweep NAME` means all of them."""
        return self.user == user or self.user.startswith(f"{user}/")


def record_use(store: Store, user: str, keys: Iterable[str]) -> None:
    """Record the results that a user needs, replacing its former record if that differs."""
    readable = re.sub(r"[^A-Za-z0-9_.-]+", "-", user)[:60]
    path = store.uses / f"{readable}-{digest(user)[:8]}.json"
    wanted = sorted(set(keys))
    try:
        if json.loads(path.read_text(encoding="utf-8"))["keys"] == wanted:
            return
    except (OSError, ValueError, KeyError, TypeError):
        pass  # missing or damaged
    updated = datetime.now(UTC).isoformat(timespec="seconds")
    write_json(path, {"user": user, "updated": updated, "keys": wanted})


def recorded_uses(store: Store) -> list[Use]:
    """The records of all users.

    Raises:
        UserError: a record is damaged, so that it is unknown which results are needed.
    """
    found = []
    for path in sorted(store.uses.glob("*.json")):
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            found.append(Use(values["user"], values["updated"], frozenset(values["keys"]), path))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path} is damaged ({error}), so it is unknown which results are needed: run its sweep or command "
                "again, which rewrites it, or delete it."
            ) from error
    return found
