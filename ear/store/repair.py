"""Removes results that are not what was published, with all that may have been computed from them.

ROOT/store/.removed.json    their keys: what MLflow says of them is not to be shown until they are computed anew
"""

import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ear.errors import UserError
from ear.files.writing import write_json
from ear.store.company import refuse_company
from ear.store.store import Store
from ear.store.verify import Verdict

REMOVED = ".removed.json"


def repair(store: Store, verdict: Verdict) -> list[Path]:
    """Carries it out: what needs these results computes them anew, from intact ones. Killed in between, it is called
    again: what rests on a damaged result goes before that.

    What can't be told is left alone, unless it rests on what is damaged.

    Returns:
        The folders into which it moved what may be the user's: files that were not published, and the content of
        results that do not say what was.

    Raises:
        UserError: somebody works on the store.
    """
    refuse_company(store, "repair")
    removed = [*verdict.resting, *verdict.faults]
    if removed:
        write_json(store.folder / REMOVED, sorted(removed_keys(store) | set(removed)))
    moved = [_set_aside(store, key, names) for key, names in verdict.strays.items()]
    for path in map(store.workspace, verdict.unfinished):
        store.discard(path)
    for key in removed:
        if key in verdict.untold or not _has_entry(store, key):
            moved.append(_set_aside(store, key))
        else:
            store.discard(store.path(key))
    return moved


def lost_seconds(store: Store, keys: Iterable[str]) -> float:
    """What results took to compute, as far as they tell."""
    total = 0.0
    for key in keys:
        with suppress(UserError, OSError, ValueError, KeyError, TypeError):
            entry = store.entry(key)
            if entry.kind == "training":
                total += entry.details["seconds"]  # since its training began
                total -= sum(store.entry(parent).details["seconds"] for parent in entry.needs)
            elif entry.kind == "evaluation":
                total += json.loads((store.path(key) / "evaluation.json").read_text(encoding="utf-8"))["seconds"]
    return total


def removed_keys(store: Store) -> set[str]:
    """Of all results that were ever removed; some are there again.

    Raises:
        UserError: their list is damaged.
    """
    path = store.folder / REMOVED
    try:
        return {str(key) for key in json.loads(path.read_text(encoding="utf-8"))}
    except FileNotFoundError:
        return set()
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"{path} is damaged ({error}), so it can't be told which of MLflow's numbers are of removed results: "
            "restore it, a list of keys, or delete it together with the MLflow runs of the sweeps that were repaired."
        ) from error


def _has_entry(store: Store, key: str) -> bool:
    try:
        store.entry(key)
    except UserError:
        return False
    return True


def _set_aside(store: Store, key: str, names: Iterable[str] = ("",)) -> Path:
    """Moves files of a result's folder, or all of it, out of the store's way; returns where to."""
    aside = store.aside(key)
    for name in names:
        target = aside / (name or key)
        target.parent.mkdir(parents=True, exist_ok=True)  # new, so that `gc` keeps them for now
        with suppress(FileNotFoundError):
            (store.path(key) / name).rename(target)
    return aside
