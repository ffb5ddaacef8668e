"""Axis values of any type as a table sorts, groups and prints them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from sweeps.spec.naming import shown

NOT_DRAWN = object()  # the value of a parameter that a point of a search does not have
NOT_DRAWN_TEXT = "-"


@dataclass(frozen=True, order=True)
class AxisValue:
    """A value of an axis whose values are not all numbers.

    Values sort by type: null, booleans, numbers, text, lists, sections, not drawn.
    """

    order: tuple[Any, ...]
    value: Any = field(compare=False)

    @classmethod
    def of(cls, value: Any) -> "AxisValue":
        """Wraps a JSON value or `NOT_DRAWN`."""
        return cls(_order(value), value)

    def __str__(self) -> str:
        """Formats the value for people, with long numbers rounded."""
        return NOT_DRAWN_TEXT if self.value is NOT_DRAWN else shown(self.value)

    @property
    def cell(self) -> str:
        """The value for programs: text as it is, empty if not drawn, everything else as JSON with all digits."""
        if self.value is NOT_DRAWN:
            return ""
        return self.value if isinstance(self.value, str) else json.dumps(self.value, ensure_ascii=False)


def axis_column(values: Sequence[Any]) -> list[Any]:
    """Returns an axis' values unchanged if all are numbers; otherwise each as an `AxisValue`."""
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return list(values)
    return [AxisValue.of(value) for value in values]


def as_csv(summary: pd.DataFrame) -> str:
    """Returns a table as CSV with all digits."""
    cells = summary.map(lambda value: value.cell if isinstance(value, AxisValue) else value)
    return str(cells.to_csv(index=False))


def _order(value: Any) -> tuple[Any, ...]:
    """A sort key: values are compared only with values of the same type."""
    if value is None:
        return (0,)
    if isinstance(value, bool):
        return (1, value)
    if isinstance(value, int | float):
        return (2, value)
    if isinstance(value, str):
        return (3, value)
    if isinstance(value, list):
        return (4, tuple(map(_order, value)))
    if isinstance(value, dict):
        return (5, tuple((name, _order(each)) for name, each in value.items()))
    assert value is NOT_DRAWN
    return (6,)
