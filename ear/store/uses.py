"""Who needs which results: what `ear store gc` must not collect.

    ROOT/store/.uses/NAME.json    {"user": ..., "updated": ..., "keys": [...]}

A user is a sweep, a training, an evaluation or a report; of several sweeps of one name each is one: `sweep NAME/HASH`.
It names the results that it rests on, those that are still to
be made included; what these rest on in turn is known from their entries.
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
    user: str
    updated: str  # ISO 8601, UTC
    keys: frozenset[str]
    path: Path

    def is_of(self, user: str) -> bool:
        """Whether this is that user, or one of several sweeps of this name: `sweep NAME` is each of them."""
        return self.user == user or self.user.startswith(f"{user}/")


def record_use(store: Store, user: str, keys: Iterable[str]) -> None:
    """Replaces what was recorded of this user, where that is something else."""
    readable = re.sub(r"[^A-Za-z0-9_.-]+", "-", user)[:60]
    path = store.uses / f"{readable}-{digest(user)[:8]}.json"
    wanted = sorted(set(keys))
    try:
        if json.loads(path.read_text(encoding="utf-8"))["keys"] == wanted:
            return
    except (OSError, ValueError, KeyError, TypeError):
        pass  # there is none, or a damaged one
    updated = datetime.now(UTC).isoformat(timespec="seconds")
    write_json(path, {"user": user, "updated": updated, "keys": wanted})


def recorded_uses(store: Store) -> list[Use]:
    """
    Raises:
        UserError: a record is damaged, so that nobody can say what is needed.
    """
    found = []
    for path in sorted(store.uses.glob("*.json")):
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            found.append(Use(values["user"], values["updated"], frozenset(values["keys"]), path))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path} is damaged ({error}), so it can't be told what is needed: run its sweep or command again, "
                "which writes it anew, or delete it."
            ) from error
    return found
