"""Stores each result once, under the hash of everything that can influence it.

    ROOT/store/KEY/           the result's files and entry.json; published by one rename, then never changed
    ROOT/store/.work/KEY/     the checkpoint of an unfinished stage
    ROOT/store/.work/leases/  which process is working on which key
    ROOT/store/.uses/         which user needs which results
    ROOT/store/format.json    the version of this layout

Correctness depends only on the rename: if two processes compute the same result, both finish and the first one is kept.
"""

import json
import os
import shutil
import time
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from ear.config.hashing import digest
from ear.errors import UserError
from ear.files.hashes import file_sha256
from ear.files.lease import Lease
from ear.files.writing import flush_folder, flush_to_disk, is_there, require_writable, write_json
from ear.process.provenance import provenance
from ear.store.keys import RECIPE_VERSION

Kind = Literal["training", "extractor", "reference", "evaluation"]


FORMAT_VERSION = 2  # format 1 hashed every field into keys, and no precision
LEASES = "leases"
POLL_SECONDS = 0.5  # between checks whether another process has published a result
PUBLISHING = "publish-"  # prefix of results that are being published
TRASH = "trash-"  # prefix of results that are being deleted
ASIDE = "aside-"  # prefix of files that were moved out of a result's folder
ENTRY = "entry.json"
SEAL = "seal"  # of an entry
FORMAT = "format.json"
REMEDY = (
    "`ear store verify --repair` removes it and all results that depend on it; the commands that need them compute "
    "them again."
)
NO_HASHES = "If an older version published it, there are no hashes to verify: delete the folder."


class UnreadableEntryError(UserError):
    """An entry can't be read now, or a newer version of this program wrote it."""


@dataclass(frozen=True)
class StoredFile:
    """Hash and size of a published file."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Entry:
    """The record of a published result, kept in its entry.json."""

    key: str
    kind: Kind
    recipe_version: int
    created: str  # ISO 8601, UTC
    details: dict[str, Any]  # specific to the kind
    provenance: dict[str, Any]  # code, versions and machine that produced it
    needs: tuple[str, ...] = ()  # keys of the results that it was computed from
    files: dict[str, StoredFile] = field(default_factory=dict)  # by name; empty if an older version published it
    seal: str = ""  # SHA-256 of the other fields, stored under `provenance`; "" if an older version published it

    @classmethod
    def load(cls, path: Path) -> "Entry":
        """Read an entry and check its seal.

        Raises:
            UnreadableEntryError: it can't be read, or a newer version of this program wrote it.
            UserError: it is damaged.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            entry = None if cls._is_newer(values) else cls._of(values)
        except (FileNotFoundError, ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
            raise UserError(f"{path} is damaged ({error}): {REMEDY}") from error
        except OSError as error:
            raise UnreadableEntryError(f"{path} can't be read ({error.strerror or error}): fix that.") from error
        if entry is None:
            raise UnreadableEntryError(f"{path} was written by a newer version of this program: update the program.")
        if entry.files and entry.seal not in ("", entry._sealed()):
            raise UserError(f"{path} is damaged (it has changed since it was published): {REMEDY}")
        return entry

    @classmethod
    def _is_newer(cls, values: dict[str, Any]) -> bool:
        """Whether an entry has fields or a recipe version that this version does not know."""
        unknown = values.keys() - ({each.name for each in fields(cls)} - {SEAL})
        for file in values.get("files", {}).values():
            unknown |= file.keys() - {each.name for each in fields(StoredFile)}
        return bool(unknown) or values["recipe_version"] > RECIPE_VERSION

    @classmethod
    def _of(cls, values: dict[str, Any]) -> "Entry":
        made_by = dict(values["provenance"])
        return cls(
            **{
                **values,
                "provenance": made_by,
                "needs": tuple(values.get("needs", ())),
                "files": {name: StoredFile(**file) for name, file in values.get("files", {}).items()},
                SEAL: made_by.pop(SEAL, ""),
            }
        )

    def write(self, path: Path) -> None:
        """Write the entry and its seal atomically. The seal is under `provenance`, which older versions can read."""
        values = asdict(self)
        del values[SEAL]
        write_json(path, {**values, "provenance": {**self.provenance, SEAL: self._sealed()}})

    def _sealed(self) -> str:
        # Not `asdict`, which copies everything deeply: reports load thousands of entries.
        values = {each.name: getattr(self, each.name) for each in fields(self) if each.name != SEAL}
        return digest({**values, "files": {name: vars(file) for name, file in self.files.items()}})

    @property
    def bytes(self) -> int:
        """The size of all its files; 0 if an older version published it."""
        return sum(file.bytes for file in self.files.values())


class Store:
    """A folder of results, each under the key that its configuration and data determine.

    Any number of processes can share a store. `publish` makes a result appear atomically; `lease` lets one process
    compute a result while the others wait.
    """

    def __init__(
        self,
        root: Path,
        on_wait: Callable[[], object] = lambda: None,
        *,
        any_format: bool = False,
        reading: bool = False,
    ) -> None:
        """Open the store below an output root, creating it if needed.

        Args:
            on_wait: called before a result is computed, and every half second while another process does it; it may
                raise to stop.
            any_format: also open a store of an earlier format, whose results have other keys.
            reading: change nothing, so that the store may be read-only or missing.

        Raises:
            UserError: the folder can't be written, or another version of this program wrote it in another format.
        """
        self._on_wait = on_wait
        self.folder = self.folder_in(root)
        self.work = self.folder / ".work"
        self.uses = self.folder / ".uses"
        self._reading = reading
        if not reading:
            require_writable(self.work)
        self.format = self._read_format()
        if self.format < FORMAT_VERSION and not any_format:
            if not self._has_results():
                self.mark_format()
                return
            # Otherwise all of its results would silently be computed again.
            raise UserError(
                f"{self.folder} was written by an earlier version of this program, which used other keys: run "
                f"`ear store migrate --root {root}`, which computes nothing, or give another folder with --root."
            )

    @staticmethod
    def folder_in(root: Path) -> Path:
        """The folder of the store below an output root."""
        return root / "store"

    def _read_format(self) -> int:
        path = self.folder / FORMAT
        if not path.exists():
            if self._has_results():
                return 1  # older than the format file
            self.mark_format()
            return FORMAT_VERSION
        try:
            version = int(json.loads(path.read_text(encoding="utf-8"))["version"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f'{path} is damaged ({error}): restore it; it holds {{"version": N}}.') from error
        if version > FORMAT_VERSION:
            raise UserError(
                f"{self.folder} was written by a newer version of this program (format {version}; this version reads "
                f"up to {FORMAT_VERSION}): update the program, or give another folder with --root."
            )
        return version

    def _has_results(self) -> bool:
        """Whether there are published results or unfinished stages."""
        return bool(self.published()) or any(self.work.glob("*/*.safetensors"))

    def mark_format(self) -> None:
        """Mark the store as having the current format."""
        if not self._reading:
            write_json(self.folder / FORMAT, {"version": FORMAT_VERSION})
        self.format = FORMAT_VERSION

    def __contains__(self, key: str) -> bool:
        """Whether the result with this key has been published."""
        return is_there(self.path(key)) and (self.path(key) / ENTRY).exists()

    def published(self) -> set[str]:
        """The keys of all published results."""
        if not self.folder.exists():
            return set()
        return {
            folder.name for folder in os.scandir(self.folder) if not folder.name.startswith(".") and folder.is_dir()
        }

    def lease(self, key: str) -> Lease:
        """The lease on this key, not yet acquired.

        Keep the object to try again: it measures how long a holder on another machine has not renewed the lease.
        """
        return Lease(self.work / LEASES / f"{key}.lease")

    def path(self, key: str) -> Path:
        """The folder of the result with this key, which need not exist yet."""
        return self.folder / key

    def workspace(self, key: str) -> Path:
        """The folder for the unfinished stage with this key; `publish` removes it."""
        return self.work / key

    def aside(self, key: str) -> Path:
        """A new path for files to move out of a result's folder; `ear store gc` deletes them after an hour."""
        return self.work / f"{ASIDE}{key}-{uuid.uuid4().hex[:8]}"

    def discard(self, path: Path) -> None:
        """Delete a result or an unfinished stage; no error if it does not exist.

        It is first renamed, so that no process ever sees a partly deleted result.
        """
        trash = self.work / f"{TRASH}{uuid.uuid4().hex}"
        try:
            path.rename(trash)
        except FileNotFoundError:
            return
        if trash.is_dir():
            shutil.rmtree(trash, ignore_errors=True)
        else:
            trash.unlink(missing_ok=True)

    def entry(self, key: str) -> Entry:
        """The entry of a published result.

        Raises:
            UnreadableEntryError: it can't be read, or a newer version of this program wrote it.
            UserError: it is damaged, or belongs to another result.
        """
        path = self.path(key) / ENTRY
        entry = Entry.load(path)
        if entry.key != key:
            raise UserError(f"{path} is the entry of {entry.key}, whose folder was renamed or copied: {REMEDY}")
        return entry

    def publish(
        self,
        key: str,
        kind: Kind,
        fill: Callable[[Path], None],
        details: Mapping[str, Any] | None = None,
        needs: Iterable[str] = (),
    ) -> Path:
        """Publish a result under `key`, unless another process has already done so.

        Args:
            fill: writes the result's files to the empty folder that it is called with.
            details: facts about the result, specific to its kind.
            needs: keys of the results that it was computed from.

        Returns:
            The folder of the published result, which may be another process's.
        """
        temporary = self.work / f"{PUBLISHING}{uuid.uuid4().hex}"
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
                needs=tuple(needs),
                files=hash_files(temporary),
            )
            entry.write(temporary / ENTRY)
            flush_to_disk(temporary)  # before the rename, so that a power failure leaves no incomplete result
            self._put(temporary, key)
            flush_folder(self.folder)  # makes the rename durable before the checkpoint is removed
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(self.workspace(key), ignore_errors=True)
        return self.path(key)

    def _put(self, folder: Path, key: str) -> None:
        """Rename a folder to the result with this key, unless that exists. Other files in its place are moved aside."""
        for last in (False, False, True):
            try:
                folder.rename(self.path(key))  # fails if the key's folder exists and is not empty
            except OSError:
                if key in self:
                    return
                aside = self.aside(key)
                if last or not _move_content(self.path(key), aside):
                    if key in self:  # another process published it between the two checks
                        return
                    raise
                warnings.warn(
                    f"{self.path(key)} was not a result: it had no {ENTRY}. Its files were moved to {aside}, where "
                    "they stay until `ear store gc` deletes them.",
                    stacklevel=3,
                )
            else:
                return

    def get_or_create(
        self,
        key: str,
        kind: Kind,
        fill: Callable[[Path], None],
        details: Mapping[str, Any] | None = None,
        needs: Iterable[str] = (),
    ) -> Path:
        """The folder of the result with this key, computed by `fill` if it does not exist yet.

        Only one process computes it; the others wait for it. Arguments are those of `publish`.
        """
        lease = self.lease(key)
        while key not in self:
            self._on_wait()  # also before the work, which may take long and can't be stopped
            if not lease.acquire():
                time.sleep(POLL_SECONDS)
                continue
            with lease:
                if key not in self:
                    self.publish(key, kind, fill, details, needs)
        return self.path(key)


def hash_files(folder: Path) -> dict[str, StoredFile]:
    """Hash and size of each file below a folder, by relative name, except its entry.

    Raises:
        OSError: a file or folder can't be read.
    """
    found = {}
    for path in sorted(_paths(folder)):
        if path.is_file() and path.name != ENTRY:
            found[str(path.relative_to(folder))] = StoredFile(file_sha256(path), path.stat().st_size)
    return found


def _paths(folder: Path) -> Iterator[Path]:
    """The paths of the files below a folder. `Path.rglob` would silently skip unreadable folders."""

    def fail(error: OSError) -> None:
        raise error

    for parent, _, names in os.walk(folder, onerror=fail):
        yield from (Path(parent) / name for name in names)


def result_file(file: Path) -> Path | None:
    """The path of a file inside the result folder of any store; None if it does not belong to a result.

    Links to the file and to the folder are followed. A copy of a result folder outside a store is not a result.
    """
    for place in (file.absolute(), file.resolve()):
        if (place.parent / ENTRY).exists() and (place.parent.parent / FORMAT).exists():
            return place
    return None


def _move_content(folder: Path, target: Path) -> bool:
    """Move the content of a folder that is not a result, or a file in a result's place, to `target`.

    A result that another process publishes in the meantime is never touched: it is another folder with this name, and
    the old one is accessed by its descriptor.

    Returns:
        Whether there was anything to move.
    """
    if folder.is_file():
        target.mkdir()
        os.link(folder, target / folder.name)
        folder.unlink()
        return True
    if not folder.is_dir():
        return False
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        names = os.listdir(opened)
        if ENTRY in names:
            return False
        target.mkdir()
        for name in names:
            with suppress(FileNotFoundError):  # another process moved it
                os.rename(name, target / name, src_dir_fd=opened)
    finally:
        os.close(opened)
    return True
