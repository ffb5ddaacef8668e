"""Results kept by the hash of everything that can influence them, each published exactly once.

    ROOT/store/KEY/           entry.json beside the result's own files; appears whole, by one rename, never changes
    ROOT/store/.work/KEY/     the checkpoint of what is unfinished
    ROOT/store/.work/leases/  who works on what
    ROOT/store/.uses/         who needs which results
    ROOT/store/format.json    the version of this layout

Correctness rests on the rename alone: two processes that make the same result both finish, the first one's is kept.
"""

import hashlib
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
from ear.files.lease import Lease
from ear.files.writing import flush_folder, flush_to_disk, is_there, require_writable, write_json
from ear.process.provenance import provenance
from ear.store.keys import RECIPE_VERSION

Kind = Literal["training", "extractor", "reference", "evaluation"]


FORMAT_VERSION = 2  # 1: keys hashed every field, and no precision
LEASES = "leases"
POLL_SECONDS = 0.5  # at what another process makes
PUBLISHING = "publish-"  # results on their way
TRASH = "trash-"  # results on their way out
ASIDE = "aside-"  # what lay in a result's place and was none
ENTRY = "entry.json"
SEAL = "seal"  # of an entry
FORMAT = "format.json"
REMEDY = "`ear store verify --repair` removes it with all that rests on it, and what needs it computes it anew."
NO_HASHES = "Where that can't tell, since an older version kept no hashes, delete the folder."


class UntoldError(UserError):
    """Whether a result is what was published can't be told: it can't be read now, or a newer version made it."""


@dataclass(frozen=True)
class StoredFile:
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Entry:
    """What a published result says of itself."""

    key: str
    kind: Kind
    recipe_version: int
    created: str  # ISO 8601, UTC
    details: dict[str, Any]  # the result's own, by kind
    provenance: dict[str, Any]  # code, versions and machine that made it
    needs: tuple[str, ...] = ()  # keys of the results that it rests on
    files: dict[str, StoredFile] = field(default_factory=dict)  # by name; none known of what older versions published
    seal: str = ""  # SHA-256 of all of the above; "" of what older versions published; lies in the file's provenance

    @classmethod
    def load(cls, path: Path) -> "Entry":
        """
        Raises:
            UntoldError: it can't be read, or is of a newer version of this program.
            UserError: it is damaged.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            entry = None if cls._is_newer(values) else cls._of(values)
        except (FileNotFoundError, ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
            raise UserError(f"{path} is damaged ({error}): {REMEDY}") from error
        except OSError as error:
            raise UntoldError(f"{path} can't be read ({error.strerror or error}): mend that.") from error
        if entry is None:
            raise UntoldError(f"{path} was made by a newer version of this program: update it.")
        if entry.files and entry.seal not in ("", entry._sealed()):
            raise UserError(f"{path} is damaged (it is not what was published): {REMEDY}")
        return entry

    @classmethod
    def _is_newer(cls, values: dict[str, Any]) -> bool:
        """Whether an entry says what this version knows nothing of."""
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
        """Atomically, with its seal, which lies where versions that know of none read it too."""
        values = asdict(self)
        del values[SEAL]
        write_json(path, {**values, "provenance": {**self.provenance, SEAL: self._sealed()}})

    def _sealed(self) -> str:
        return digest({name: value for name, value in asdict(self).items() if name != SEAL})

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files.values())


class Store:
    def __init__(
        self,
        root: Path,
        on_wait: Callable[[], object] = lambda: None,
        *,
        any_format: bool = False,
        reading: bool = False,
    ) -> None:
        """
        Args:
            on_wait: called every half second in which another process is waited for, which it may end by raising.
            any_format: opens a store of an earlier format too, under whose keys nothing of today's is found.
            reading: leaves everything as it is, so that it may be read-only, or not be there.

        Raises:
            UserError: the folder can't be written, or a newer version of this program wrote it, or an earlier one.
        """
        self._on_wait = on_wait
        self.folder = root / "store"
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
            # Its results would be computed again, each of them, without a word.
            raise UserError(
                f"{self.folder} was written by an earlier version of this program, which named results otherwise: "
                f"`ear store migrate --root {root}` carries them over and computes nothing, or give "
                "another folder with --root."
            )

    def _read_format(self) -> int:
        path = self.folder / FORMAT
        if not path.exists():
            if self._has_results():
                return 1  # before there was such a file
            self.mark_format()
            return FORMAT_VERSION
        try:
            version = int(json.loads(path.read_text(encoding="utf-8"))["version"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f'{path} is damaged ({error}): restore it; it holds {{"version": N}}.') from error
        if version > FORMAT_VERSION:
            raise UserError(
                f"{self.folder} was written by a newer version of this program (its layout has version {version}, "
                f"this one knows {FORMAT_VERSION}): update the program, or give another folder with --root."
            )
        return version

    def _has_results(self) -> bool:
        """Finished or unfinished ones."""
        return bool(self.published()) or any(self.work.glob("*/*.safetensors"))

    def mark_format(self) -> None:
        """Says that everything in it is of today's format."""
        if not self._reading:
            write_json(self.folder / FORMAT, {"version": FORMAT_VERSION})
        self.format = FORMAT_VERSION

    def __contains__(self, key: str) -> bool:
        return is_there(self.path(key)) and (self.path(key) / ENTRY).exists()

    def published(self) -> set[str]:
        """The keys of all results that are there."""
        if not self.folder.exists():
            return set()
        return {
            folder.name for folder in os.scandir(self.folder) if not folder.name.startswith(".") and folder.is_dir()
        }

    def lease(self, key: str) -> Lease:
        """The right to work on this key, not yet acquired. To try again, keep it: it watches for how long another
        machine's holder shows no life."""
        return Lease(self.work / LEASES / f"{key}.lease")

    def path(self, key: str) -> Path:
        """Where the result of this key is, or will be."""
        return self.folder / key

    def workspace(self, key: str) -> Path:
        """A folder for the unfinished work on this key; it is removed when the key is published."""
        return self.work / key

    def aside(self, key: str) -> Path:
        """A new folder's name, for what lay in a result's place and does not belong there; `gc` deletes it once old."""
        return self.work / f"{ASIDE}{key}-{uuid.uuid4().hex[:8]}"

    def discard(self, path: Path) -> None:
        """Deletes a result, or unfinished work: by one rename, as a result came, so that nobody ever sees a half of it.
        Does nothing where it is gone."""
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
        """
        Raises:
            UntoldError: the entry can't be read, or is of a newer version of this program.
            UserError: it is damaged, or another result's.
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
        """Calls `fill` on an empty folder, then makes that folder the result of this key, unless there is one already.

        `needs` are the keys of the results that it rests on.

        Returns:
            The folder of the result that is kept: ours, or the one of whoever was first.
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
            flush_to_disk(temporary)  # before the rename: a machine that loses its power leaves no half of a result
            self._put(temporary, key)
            flush_folder(self.folder)  # its name, before the checkpoint goes
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(self.workspace(key), ignore_errors=True)
        return self.path(key)

    def _put(self, folder: Path, key: str) -> None:
        """Makes a folder the result of this key, unless there is one already; what lies there and is none makes way."""
        for last in (False, False, True):
            try:
                folder.rename(self.path(key))  # fails where the key exists: its folder is not empty
            except OSError:
                if key in self:
                    return
                aside = self.aside(key)
                if last or not _move_content(self.path(key), aside):
                    if key in self:  # another publisher was done between these looks
                        return
                    raise
                warnings.warn(
                    f"{self.path(key)} held no result, for it lacked {ENTRY}. What was in it is in {aside} now, until "
                    "`ear store gc` deletes it.",
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
        """The result of this key, made now if it is not there; of several processes that want it, by one at a time."""
        lease = self.lease(key)
        while key not in self:
            if not lease.acquire():
                self._on_wait()
                time.sleep(POLL_SECONDS)
                continue
            with lease:
                if key not in self:
                    self.publish(key, kind, fill, details, needs)
        return self.path(key)


def hash_files(folder: Path) -> dict[str, StoredFile]:
    """Of everything below a folder but its entry.

    Raises:
        OSError: some of it can't be read.
    """
    found = {}
    for path in sorted(_paths(folder)):
        if path.is_file() and path.name != ENTRY:
            with path.open("rb") as file:
                found[str(path.relative_to(folder))] = StoredFile(
                    hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size
                )
    return found


def _paths(folder: Path) -> Iterator[Path]:
    """Of the files below a folder. `Path.rglob` passes over folders that can't be read."""

    def fail(error: OSError) -> None:
        raise error

    for parent, _, names in os.walk(folder, onerror=fail):
        yield from (Path(parent) / name for name in names)


def result_file(file: Path) -> Path | None:
    """The place of a file in the folder of a store's result, of whichever store; None where it is of none.

    Links are followed, of the file and of the folder. A copy of such a folder that lies elsewhere is a folder like any.
    """
    for place in (file.absolute(), file.resolve()):
        if (place.parent / ENTRY).exists() and (place.parent.parent / FORMAT).exists():
            return place
    return None


def _move_content(folder: Path, target: Path) -> bool:
    """Empties a folder that is no result, or moves a file that lies in a result's place; False where it is neither.

    A result that another process publishes meanwhile is never touched: it comes as another folder under this name, and
    this one is known by its descriptor.
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
            with suppress(FileNotFoundError):  # another publisher moved it
                os.rename(name, target / name, src_dir_fd=opened)
    finally:
        os.close(opened)
    return True
