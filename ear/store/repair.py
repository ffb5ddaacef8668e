"""Removes damaged results and all results that may have been computed from them.

ROOT/store/.removed.json    keys of removed results: reports hide their metrics in MLflow until they are computed again
"""

import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ear.errors import UserError
from ear.files.writing import write_json
from ear.store.in_use import require_unused
from ear.store.store import Store
from ear.store.verify import Verification

REMOVED = ".removed.json"


def repair(store: Store, found: Verification) -> list[Path]:
    """Remove the damaged results that a verification found, and the results that depend on them.

    The commands that need them compute them again. Dependent results are removed first, so a repair that was killed
    can be repeated. Results that can't be verified stay, unless they depend on a damaged one.

    Returns:
        The folders that now hold files that may be the user's: unpublished files, and the content of results whose
        entry can't be read.

    Raises:
        UserError: a process is using the store.
    """
    require_unused(store, "repair")
    removed = [*found.dependent, *found.faults]
    if removed:
        write_json(store.folder / REMOVED, sorted(removed_keys(store) | set(removed)))
    moved = [_set_aside(store, key, names) for key, names in found.unpublished.items()]
    for path in map(store.workspace, found.unfinished):
        store.discard(path)
    for key in removed:
        if key in found.unreadable or not _has_entry(store, key):
            moved.append(_set_aside(store, key))
        else:
            store.discard(store.path(key))
    return moved


def lost_seconds(store: Store, keys: Iterable[str]) -> float:
    """The seconds that these results took to compute, as far as they are recorded."""
    total = 0.0
    for key in keys:
        with suppress(UserError, OSError, ValueError, KeyError, TypeError):
            entry = store.entry(key)
            if entry.kind == "training":
                total += entry.details["seconds"]  # includes the stages before
                total -= sum(store.entry(parent).details["seconds"] for parent in entry.needs)
            elif entry.kind == "evaluation":
                total += json.loads((store.path(key) / "evaluation.json").read_text(encoding="utf-8"))["seconds"]
    return total


def removed_keys(store: Store) -> set[str]:
    """The keys of all results that were ever removed; some may have been computed again.

    Raises:
        UserError: the list of them is damaged.
    """
    path = store.folder / REMOVED
    try:
        return {str(key) for key in json.loads(path.read_text(encoding="utf-8"))}
    except FileNotFoundError:
        return set()
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"{path} is damaged ({error}), so it is unknown which metrics in MLflow are of removed results: restore "
            "this list of keys, or delete it together with the MLflow runs of the sweeps that were repaired."
        ) from error


def _has_entry(store: Store, key: str) -> bool:
    try:
        store.entry(key)
    except UserError:
        return False
    return True


def _set_aside(store: Store, key: str, names: Iterable[str] = ("",)) -> Path:
    """Move files of a result's folder, or the whole folder, to a new folder in the work area. Returns that folder."""
    aside = store.aside(key)
    for name in names:
        target = aside / (name or key)
        target.parent.mkdir(parents=True, exist_ok=True)  # gives `aside` a new modification time: `gc` keeps it for now
        with suppress(FileNotFoundError):
            (store.path(key) / name).rename(target)
    return aside
