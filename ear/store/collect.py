"""Garbage collection: finds results that are not reachable from any recorded use, and deletes them."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ear.errors import UserError
from ear.files.writing import time_in
from ear.store.store import ASIDE, LEASES, PUBLISHING, TRASH, Entry, Store
from ear.store.uses import Use, recorded_uses

SETTLED_SECONDS = 3600.0  # anything younger may belong to a process that has not recorded its use yet


@dataclass(frozen=True)
class Garbage:
    """What a garbage collection would delete, and how many results would stay."""

    results: list[Entry]  # published results that no user needs
    leftovers: list[Path]  # unfinished stages that nothing will resume, and files that killed processes left behind
    bytes: int
    needed: int  # results that stay because a user needs them
    young: int  # results that no user needs but that stay because they are too new


def reachable(keys: Iterable[str], needs: Mapping[str, Iterable[str]]) -> set[str]:
    """`keys` and the keys of all results that they depend on, directly or indirectly."""
    found: set[str] = set()
    waiting = list(keys)
    while waiting:
        key = waiting.pop()
        if key not in found:
            found.add(key)
            waiting += needs.get(key, ())
    return found


def entries(store: Store, damaged: list[str] | None = None) -> list[Entry]:
    """The entries of all results, newest first.

    Args:
        damaged: a list to which the keys of unreadable entries are appended.

    Raises:
        UserError: an entry can't be read, and `damaged` is not given.
    """
    found = []
    for key in store.published():
        try:
            found.append(store.entry(key))
        except UserError:
            if damaged is None:
                raise
            damaged.append(key)
    return sorted(found, key=lambda entry: entry.created, reverse=True)


def needs_of(entry: Entry) -> tuple[str, ...]:
    """The keys of the results that a result was computed from. Entries of older versions name only the training."""
    training = entry.details.get("training")
    return entry.needs or ((training,) if training else ())


def find_garbage(store: Store, forgotten: Iterable[str] = ()) -> Garbage:
    """Find what can be deleted once the `forgotten` users are dropped.

    Raises:
        UserError: a forgotten user is unknown, or a record or an entry is damaged.
    """
    gone = {use.path for use in find_uses(store, forgotten)}
    uses = [use for use in recorded_uses(store) if use.path not in gone]
    known = entries(store)
    needed = reachable((key for use in uses for key in use.keys), {entry.key: needs_of(entry) for entry in known})
    unneeded = [entry for entry in known if entry.key not in needed]
    now = _time_in(store.folder)
    old = [entry for entry in unneeded if is_old(store.path(entry.key), now)]
    leftovers = find_leftovers(store, needed, {entry.key for entry in known})
    return Garbage(
        results=old,
        leftovers=leftovers,
        bytes=sum(entry.bytes or size_of(store.path(entry.key)) for entry in old) + sum(map(size_of, leftovers)),
        needed=len(known) - len(unneeded),
        young=len(unneeded) - len(old),
    )


def find_uses(store: Store, users: Iterable[str]) -> list[Use]:
    """The records of these users.

    Raises:
        UserError: a user is unknown.
    """
    known, found = recorded_uses(store), []
    for user in users:
        if not (named := [use for use in known if use.is_of(user)]):
            there = ", ".join(sorted(use.user for use in known)) or "none"
            raise UserError(f"This store has no user {user!r}; its users: {there}.")
        found += named
    return found


def find_leftovers(store: Store, needed: set[str], published: set[str]) -> list[Path]:
    """Find unfinished stages that are published or that no user needs, and files that killed processes left behind."""
    found, now = [], _time_in(store.work)
    for path in sorted(store.work.iterdir()):
        if path.name == LEASES:
            continue
        passing = path.name.startswith((ASIDE, PUBLISHING, TRASH))
        if (
            (passing or path.name in published or path.name not in needed)
            and is_old(path, now)
            and is_free(store, path)
        ):
            found.append(path)
    return found


def _time_in(folder: Path) -> float:
    """The time by the clock of the folder's file server."""
    try:
        return time_in(folder)
    except OSError:  # in a read-only folder nothing can be deleted either
        return -math.inf


def is_old(path: Path, now: float) -> bool:
    """Whether nothing below `path` was modified in the last `SETTLED_SECONDS`."""
    try:
        return now - max(each.stat().st_mtime for each in [path, *path.rglob("*")]) > SETTLED_SECONDS
    except OSError:
        return False


def is_free(store: Store, path: Path) -> bool:
    """Whether no process holds a lease on it."""
    with store.lease(path.name) as lease:
        return lease.acquire()


def size_of(path: Path) -> int:
    """The bytes of all files below `path`."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def collect(store: Store, garbage: Garbage, forgotten: Iterable[str] = ()) -> None:
    """Delete the garbage and the records of the `forgotten` users.

    If it is killed, the store stays valid and the next call deletes the rest.
    """
    for use in find_uses(store, forgotten):
        use.path.unlink(missing_ok=True)
    for path in [*(store.path(entry.key) for entry in garbage.results), *garbage.leftovers]:
        store.discard(path)
