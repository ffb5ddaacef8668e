"""Whether what lies in the store is what was published, and what rests on what is not."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ear.config.hashing import sha256
from ear.errors import UserError
from ear.store.collect import needs_of, reachable
from ear.store.keys import stage_keys
from ear.store.outdated import outdated
from ear.store.store import ENTRY, REMEDY, Entry, Store, StoredFile, UntoldError, hash_files, result_file

NOT_READ = "config.yaml"  # a result's file that nothing is computed from


@dataclass
class Verdict:
    intact: int = 0
    unverifiable: int = 0  # published by a version that kept no hashes
    faults: dict[str, list[str]] = field(default_factory=dict)  # key -> what is wrong with it
    strays: dict[str, list[str]] = field(default_factory=dict)  # key -> names of files in it that were not published
    untold: dict[str, str] = field(default_factory=dict)  # key -> why it can't be told whether it is damaged
    resting: dict[str, list[str]] = field(default_factory=dict)  # key -> keys of damaged results that it rests on
    unfinished: dict[str, list[str]] = field(default_factory=dict)  # likewise, of training stages that have begun
    outdated: list[str] = field(default_factory=list)  # keys of evaluations that are not served any more


def verify(store: Store, on_key: Callable[[], object] = lambda: None) -> Verdict:
    """Reads every file of every result and compares its SHA-256 with the one that was published.

    What rests on a result whose content has changed may have been computed from the change: earlier versions did not
    look before they read. What can't be read, or is of a newer version, is taken neither for intact nor for damaged.
    """
    verdict = Verdict()
    changed: set[str] = set()
    needs: dict[str, tuple[str, ...]] = {}
    for key in sorted(store.published()):
        on_key()
        try:
            entry = store.entry(key)
            needs[key] = needs_of(entry)
            found = hash_files(store.path(key))
        except UntoldError as error:
            verdict.untold[key] = str(error)
            continue
        except UserError as error:
            verdict.faults[key] = [str(error)]
            changed.add(key)
            continue
        except OSError as error:
            verdict.untold[key] = f"{error.filename or store.path(key)} can't be read ({error.strerror}): mend that."
            continue
        if not entry.files:
            verdict.unverifiable += 1
        elif faults := file_faults(entry, found):
            verdict.faults[key] = faults
            if any(found.get(name, wanted) != wanted for name, wanted in entry.files.items() if name != NOT_READ):
                changed.add(key)
        if entry.files and (strays := stray_files(entry, found)):
            verdict.strays[key] = strays
        if key not in verdict.faults:
            verdict.intact += bool(entry.files) and key not in verdict.strays
            verdict.outdated += outdated(store, [entry])
    for key in needs.keys() - verdict.faults.keys():
        if damaged := reachable(needs[key], needs) & changed:
            verdict.resting[key] = sorted(damaged)
    for key, stages in unfinished_stages(store).items():
        if damaged := changed.intersection(stages):
            verdict.unfinished[key] = sorted(damaged)
    return verdict


def unfinished_stages(store: Store) -> dict[str, tuple[str, ...]]:
    """Keys of training stages that have begun, with those of the stages before, as their checkpoints tell."""
    from ear.training.checkpoint import CHECKPOINT, load_header  # imports torch

    found = {}
    for path in sorted(store.work.glob(f"*/{CHECKPOINT}")):
        key = path.parent.name
        try:
            header = load_header(path)
            keys = stage_keys(header.config, header.dataset_hash)
        except UserError:  # damaged, which is found before anything goes on from it; or what it began from is gone
            continue
        if key in keys:
            found[key] = keys[: keys.index(key)]
    return found


def require_as_published(file: Path) -> None:
    """For a file of a store's result that is about to be used; does nothing for files that are no result's.

    Raises:
        UserError: it has changed, so that its key is not that of what it holds.
    """
    place = result_file(file)
    if place is None:
        return
    path = place.parent / ENTRY
    entry = Entry.load(path)
    if entry.key != place.parent.name:
        raise UserError(f"{path} is the entry of {entry.key}, whose folder was renamed or copied: {REMEDY}")
    wanted = entry.files.get(place.name)
    try:
        is_intact = wanted is None or (file.stat().st_size == wanted.bytes and sha256(file) == wanted.sha256)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{file} can't be read ({reason}): mend that; where it is lost, {REMEDY}") from error
    if not is_intact:
        raise UserError(f"{file} is damaged: it is not what was published (SHA-256): {REMEDY}")


def file_faults(entry: Entry, found: Mapping[str, StoredFile]) -> list[str]:
    """How the files that were published differ from those found."""
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


def stray_files(entry: Entry, found: Iterable[str]) -> list[str]:
    """Names of the files found that were not published: the user's."""
    return [name for name in found if name not in entry.files]
