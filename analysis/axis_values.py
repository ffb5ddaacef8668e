"""The values of an axis as a table sorts, groups and prints them, whatever the schema admits there."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from sweeps.spec.naming import shown

NOT_DRAWN = object()  # of a parameter that a point of a search does not have
NOT_DRAWN_TEXT = "-"


@dataclass(frozen=True, order=True)
class AxisValue:
    """A value of an axis that is not one of numbers alone.

    Values of different kinds are sorted by kind: none, false and true, numbers, words, lists, sections, not drawn.
    """

    order: tuple[Any, ...]
    value: Any = field(compare=False)

    @classmethod
    def of(cls, value: Any) -> "AxisValue":
        return cls(_order(value), value)

    def __str__(self) -> str:
        """For people: of a drawn number, the digits that anybody reads."""
        return NOT_DRAWN_TEXT if self.value is NOT_DRAWN else shown(self.value)

    @property
    def cell(self) -> str:
        """For programs: words as they are, nothing where not drawn, all else as JSON has it, with every digit."""
        if self.value is NOT_DRAWN:
            return ""
        return self.value if isinstance(self.value, str) else json.dumps(self.value, ensure_ascii=False)


def axis_column(values: Sequence[Any]) -> list[Any]:
    """An axis' values as they are where all are numbers, to compute and draw with; else each an `AxisValue`."""
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return list(values)
    return [AxisValue.of(value) for value in values]


def as_csv(summary: pd.DataFrame) -> str:
    """A table with columns of axes, without the loss of a digit."""
    cells = summary.map(lambda value: value.cell if isinstance(value, AxisValue) else value)
    return str(cells.to_csv(index=False))


def _order(value: Any) -> tuple[Any, ...]:
    """Values of one kind are compared with one another, and never with those of another."""
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
