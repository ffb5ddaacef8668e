"""What made a report's numbers, and what that cost: code, libraries, machines, hours."""

from collections.abc import Iterable, Mapping
from typing import Any

from ear.errors import UserError
from ear.store import Store
from ear.terminal.units import duration


def provenance(runs: Iterable[Mapping[str, Any]], store: Store) -> list[tuple[str, str]]:
    """Returns names and values on the results behind these runs, of those that the store still has.

    Args:
        runs: rows of a sweep's frame, with `key` and `stages`.
        store: the store of the sweep's root.
    """
    rows = list(runs)
    entries = _entries({key for run in rows for key in (*run["stages"], run["key"])}, store)
    if not entries:
        return [("Results", "none of the results behind these numbers is in this store any more")]
    made = [entry.provenance for entry in entries.values()]
    found = [
        ("Results in the store", str(len(entries))),
        ("Made", _span(entry.created[:10] for entry in entries.values())),
        ("Code", _list(each.get("git_commit") or "no commit known" for each in made)),
        ("Python", _list(each.get("python") for each in made)),
        ("Libraries", "; ".join(_versions(made))),
        ("Machines", _list(_machine(each) for each in made)),
    ]
    return found + _cost(rows, entries)


def _entries(keys: Iterable[str], store: Store) -> dict[str, Any]:
    entries = {}
    for key in sorted(keys):
        try:
            if key in store:
                entries[key] = store.entry(key)
        except UserError:  # damaged: `ear store verify` tells of it
            continue
    return entries


def _cost(rows: Iterable[Mapping[str, Any]], entries: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The hours of training, once for each shared stage, and what the same runs would cost without sharing."""
    spent, alone = 0.0, 0.0
    counted: set[str] = set()
    for run in rows:
        before = 0.0
        for key in run["stages"]:
            if key not in entries:
                break
            seconds = entries[key].details["seconds"]  # includes the stages before
            if key not in counted:
                counted.add(key)
                spent += seconds - before
            before = seconds
        alone += before
    if not counted:
        return []
    gpus = any(entries[key].provenance.get("accelerator") for key in counted)
    unit = "GPU time" if gpus else "CPU time of a process"
    return [
        ("Training", f"{duration(spent / 3600)} of {unit}"),
        ("Saved by sharing stages", f"{duration((alone - spent) / 3600)} of {duration(alone / 3600)}"),
    ]


def _versions(made: Iterable[Mapping[str, Any]]) -> list[str]:
    versions: dict[str, set[str]] = {}
    for each in made:
        for library, version in each.get("versions", {}).items():
            versions.setdefault(library, set()).add(version)
    return [f"{library} {' and '.join(sorted(found))}" for library, found in versions.items()]


def _machine(made: Mapping[str, Any]) -> str:
    return f"{made.get('host')} ({made.get('accelerator') or made.get('processor')})"


def _list(values: Iterable[str | None]) -> str:
    return ", ".join(sorted({value for value in values if value}))


def _span(days: Iterable[str]) -> str:
    ordered = sorted(days)
    return ordered[0] if ordered[0] == ordered[-1] else f"{ordered[0]} to {ordered[-1]}"
