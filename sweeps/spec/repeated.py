"""Finds duplicates among values of a YAML, in one pass."""

from collections.abc import Hashable, Iterable
from typing import Any


def first_repeated(values: Iterable[Any]) -> int | None:
    """Returns the index of the first value that equals an earlier one; None if all differ. 1 equals 1.0 and true."""
    seen: set[Hashable] = set()
    for index, value in enumerate(values):
        if (known := _hashable(value)) in seen:
            return index
        seen.add(known)
    return None


def _hashable(value: Any) -> Hashable:
    """A hashable form of a YAML value; equal exactly for equal values."""
    if isinstance(value, list | tuple):
        return "list", tuple(map(_hashable, value))
    if isinstance(value, dict):
        return "mapping", frozenset((key, _hashable(inside)) for key, inside in value.items())
    return "value", value
