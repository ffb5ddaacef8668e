"""Which of many values of a YAML stands there twice, in one pass."""

from collections.abc import Hashable, Iterable
from typing import Any


def first_repeated(values: Iterable[Any]) -> int | None:
    """Where the first value stands that equals one before it; None where all differ. 1 equals 1.0 and true."""
    seen: set[Hashable] = set()
    for place, value in enumerate(values):
        if (known := _hashable(value)) in seen:
            return place
        seen.add(known)
    return None


def _hashable(value: Any) -> Hashable:
    """Equal for equal values of a YAML, and for these alone."""
    if isinstance(value, list | tuple):
        return "list", tuple(map(_hashable, value))
    if isinstance(value, dict):
        return "mapping", frozenset((key, _hashable(inside)) for key, inside in value.items())
    return "value", value
