"""Verifies that results have not changed since they were published, and finds results that depend on damaged ones."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ear.errors import UserError
from ear.files.hashes import cached_sha256
from ear.store.collect import needs_of, reachable
from ear.store.keys import stage_keys
from ear.store.outdated import outdated
from ear.store.store import ENTRY, REMEDY, Entry, Store, StoredFile, UnreadableEntryError, hash_files, result_file

NOT_READ = "config.yaml"  # the only file of a result that no other result is computed from


@dataclass
class Verification:
    """What verifying a store found. Its field names are those of `ear store verify --json`."""

    intact: int = 0
    unverifiable: int = 0  # results of older versions, which recorded no hashes
    faults: dict[str, list[str]] = field(default_factory=dict)  # key of a damaged result -> what is wrong
    unpublished: dict[str, list[str]] = field(default_factory=dict)  # key -> names of unpublished files in its folder
    unreadable: dict[str, str] = field(default_factory=dict)  # key -> why the result can't be verified now
    dependent: dict[str, list[str]] = field(default_factory=dict)  # key of a dependent result -> keys of damaged ones
    unfinished: dict[str, list[str]] = field(default_factory=dict)  # the same for unfinished training stages
    outdated: list[str] = field(default_factory=list)  # keys of outdated evaluations


def verify(store: Store, on_key: Callable[[], object] = lambda: None) -> Verification:
    """Compare the SHA-256 of every file of every result with the published one.

    Results that depend on a changed one may have been computed from the damaged data, since earlier versions did not
    verify what they read. A result that can't be read, or that a newer version wrote, counts neither as intact nor as
    damaged.

    Args:
        on_key: called before each result.
    """
    found = Verification()
    changed: set[str] = set()
    needs: dict[str, tuple[str, ...]] = {}
    for key in sorted(store.published()):
        on_key()
        try:
            entry = store.entry(key)
            needs[key] = needs_of(entry)
            hashed = hash_files(store.path(key))
        except UnreadableEntryError as error:
            found.unreadable[key] = str(error)
            continue
        except UserError as error:
            found.faults[key] = [str(error)]
            changed.add(key)
            continue
        except OSError as error:
            found.unreadable[key] = f"{error.filename or store.path(key)} can't be read ({error.strerror}): fix that."
            continue
        if not entry.files:
            found.unverifiable += 1
        elif faults := file_faults(entry, hashed):
            found.faults[key] = faults
            if any(hashed.get(name, wanted) != wanted for name, wanted in entry.files.items() if name != NOT_READ):
                changed.add(key)
        if entry.files and (unpublished := unpublished_files(entry, hashed)):
            found.unpublished[key] = unpublished
        if key not in found.faults:
            found.intact += bool(entry.files) and key not in found.unpublished
            found.outdated += outdated(store, [entry])
    for key in needs.keys() - found.faults.keys():
        if damaged := reachable(needs[key], needs) & changed:
            found.dependent[key] = sorted(damaged)
    for key, stages in unfinished_stages(store).items():
        if damaged := changed.intersection(stages):
            found.unfinished[key] = sorted(damaged)
    return found


def unfinished_stages(store: Store) -> dict[str, tuple[str, ...]]:
    """The keys of unfinished training stages, each with the keys of the stages before it, from their checkpoints."""
    from ear.training.checkpoint import CHECKPOINT, load_header  # imports torch

    found = {}
    for path in sorted(store.work.glob(f"*/{CHECKPOINT}")):
        key = path.parent.name
        try:
            header = load_header(path)
            keys = stage_keys(header.config, header.dataset_hash)
        except UserError:  # damaged, which resuming detects; or its initial checkpoint is missing
            continue
        if key in keys:
            found[key] = keys[: keys.index(key)]
    return found


def require_as_published(file: Path) -> None:
    """Check that a file has not changed since it was published; does nothing for files outside results.

    Raises:
        UserError: it has changed, so that it is not the result that its key says.
    """
    place = result_file(file)
    if place is None:
        return
    path = place.parent / ENTRY
    entry = Entry.load(path)
    if entry.key != place.parent.name:
        raise UserError(f"{path} is the entry of {entry.key}, whose folder was renamed or copied: {REMEDY}")
    require_intact(place, entry)


def require_intact(file: Path, entry: Entry) -> None:
    """Check that a file of a result is as its entry says.

    Raises:
        UserError: it has changed, or can't be read.
    """
    wanted = entry.files.get(file.name)
    try:
        is_intact = wanted is None or (file.stat().st_size == wanted.bytes and cached_sha256(file) == wanted.sha256)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{file} can't be read ({reason}): fix that. If it is lost, {REMEDY}") from error
    if not is_intact:
        raise UserError(f"{file} is damaged: its SHA-256 is not the published one. {REMEDY}")


def file_faults(entry: Entry, found: Mapping[str, StoredFile]) -> list[str]:
    """Describe the published files that are missing or have changed."""
    faults = [f"{name} is missing" for name in entry.files if name not in found]
    for name, wanted in entry.files.items():
        if name in found and found[name] != wanted:
            size = (
                f" ({found[name].bytes:,} bytes instead of {wanted.bytes:,})"
                if found[name].bytes != wanted.bytes
                else ""
            )
            faults.append(f"{name} has changed{size}")
    return faults


def unpublished_files(entry: Entry, found: Iterable[str]) -> list[str]:
    """The names of files that were found but not published."""
    return [name for name in found if name not in entry.files]
