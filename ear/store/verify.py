"""Whether what lies in the store is what was published."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ear.config.hashing import sha256
from ear.errors import UserError
from ear.store.outdated import outdated
from ear.store.store import Entry, Store, StoredFile, hash_files


@dataclass
class Verdict:
    intact: int = 0
    unverifiable: int = 0  # published by a version that kept no hashes
    faults: dict[str, list[str]] = field(default_factory=dict)  # key -> what is wrong with it
    outdated: list[str] = field(default_factory=list)  # keys of evaluations that are not served any more


def verify(store: Store, on_key: Callable[[], object] = lambda: None) -> Verdict:
    """Reads every file of every result and compares its SHA-256 with the one that was published."""
    verdict = Verdict()
    for key in sorted(store.published()):
        faults = faults_of(store, key)
        if faults is None:
            verdict.unverifiable += 1
        elif faults:
            verdict.faults[key] = faults
        else:
            verdict.intact += 1
        if not faults:
            verdict.outdated += outdated(store, [store.entry(key)])
        on_key()
    return verdict


def faults_of(store: Store, key: str) -> list[str] | None:
    """What is wrong with a result; None where nothing is known of what it should be."""
    try:
        entry = store.entry(key)
    except UserError as error:
        return [str(error)]
    if not entry.files:
        return None
    return file_faults(entry, hash_files(store.path(key)))


def require_as_published(file: Path) -> None:
    """For a file of a result that others are about to rest on; does nothing for files that are no result's.

    Raises:
        UserError: it has changed, so that its key is not that of what it holds.
    """
    if not (file.parent / "entry.json").exists():
        return
    wanted = Entry.load(file.parent / "entry.json").files.get(file.name)
    if wanted is not None and sha256(file) != wanted.sha256:
        raise UserError(
            f"{file} is damaged: it is not what was published (SHA-256). Delete its folder, and what needs it computes "
            "it anew; `ear store verify` finds others."
        )


def file_faults(entry: Entry, found: Mapping[str, StoredFile]) -> list[str]:
    """How the files found differ from those that were published."""
    faults = [f"{name} is missing" for name in entry.files if name not in found]
    faults += [f"{name} does not belong here" for name in found if name not in entry.files]
    for name, wanted in entry.files.items():
        if name in found and found[name] != wanted:
            size = (
                f" ({found[name].bytes:,} bytes instead of {wanted.bytes:,})"
                if found[name].bytes != wanted.bytes
                else ""
            )
            faults.append(f"{name} has changed{size}")
    return faults
