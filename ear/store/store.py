"""Results kept by the hash of everything that can influence them, each published exactly once.

    ROOT/store/KEY/      entry.json beside the result's own files; appears whole, by one rename, and never changes
    ROOT/store/.work/    checkpoints of what is unfinished, by key; and results on their way

Correctness rests on the rename alone: two processes that make the same result both finish, the first one's is kept.
"""

import json
import shutil
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from ear.errors import UserError
from ear.files import require_writable, write_json
from ear.provenance import provenance
from ear.store.keys import RECIPE_VERSION

Kind = Literal["training", "extractor", "reference", "evaluation"]


@dataclass(frozen=True)
class Entry:
    """What a published result says of itself."""

    key: str
    kind: Kind
    recipe_version: int
    created: str  # ISO 8601, UTC
    details: dict[str, Any]  # the result's own, by kind
    provenance: dict[str, Any]  # code, versions and machine that made it


class Store:
    def __init__(self, root: Path) -> None:
        """
        Raises:
            UserError: the folder can't be written.
        """
        self.folder = root / "store"
        self._work = self.folder / ".work"
        require_writable(self._work)

    def __contains__(self, key: str) -> bool:
        return (self.path(key) / "entry.json").exists()

    def path(self, key: str) -> Path:
        """Where the result of this key is, or will be."""
        return self.folder / key

    def workspace(self, key: str) -> Path:
        """A folder for the unfinished work on this key; it is removed when the key is published."""
        return self._work / key

    def entry(self, key: str) -> Entry:
        """
        Raises:
            UserError: the entry can't be read.
        """
        path = self.path(key) / "entry.json"
        try:
            return Entry(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise UserError(
                f"{path} is damaged ({error}): delete its folder and run the same command again."
            ) from error

    def publish(
        self, key: str, kind: Kind, fill: Callable[[Path], None], details: Mapping[str, Any] | None = None
    ) -> Path:
        """Calls `fill` on an empty folder, then makes that folder the result of this key, unless there is one already.

        Returns:
            The folder of the result that is kept: ours, or the one of whoever was first.
        """
        temporary = self._work / f"publish-{uuid.uuid4().hex}"
        temporary.mkdir(parents=True)
        try:
            fill(temporary)
            entry = Entry(
                key=key,
                kind=kind,
                recipe_version=RECIPE_VERSION,
                created=datetime.now(UTC).isoformat(timespec="seconds"),
                details=dict(details or {}),
                provenance=provenance(),
            )
            write_json(temporary / "entry.json", asdict(entry))
            try:
                temporary.rename(self.path(key))  # fails where the key exists: its folder is not empty
            except OSError:
                if key not in self:
                    raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(self.workspace(key), ignore_errors=True)
        return self.path(key)

    def get_or_create(
        self, key: str, kind: Kind, fill: Callable[[Path], None], details: Mapping[str, Any] | None = None
    ) -> Path:
        """The result of this key, made now if it is not there."""
        return self.path(key) if key in self else self.publish(key, kind, fill, details)
