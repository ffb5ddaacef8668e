"""Metrics and constraints as `ear promote` reads them from the command line."""

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches

from analysis.sweep_runs import METRICS
from ear.errors import UserError, shortened
from sweeps.spec.search_schema import BoundConfig

CONSTRAINT = re.compile(r"\s*([a-z_]+)\s*(>=|<=)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*")


def require_metric(name: str, option: str) -> str:
    """Returns `name` if it is a metric.

    Raises:
        UserError: it is not.
    """
    if name in METRICS:
        return name
    close = get_close_matches(name, METRICS, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    raise UserError(f"{option}: {shortened(name)!r} is not a metric{hint}. Metrics: {', '.join(METRICS)}.")


def parse_constraints(texts: Sequence[str]) -> dict[str, BoundConfig]:
    """Parses constraints such as `recall>=0.5`; several on one metric all apply.

    Raises:
        UserError: one has another form, names no metric, or repeats a side of a metric.
    """
    found: dict[str, dict[str, float]] = {}
    for text in texts:
        option = f"--constraint {shortened(repr(text))}"
        match = CONSTRAINT.fullmatch(text)
        if match is None:
            raise UserError(f"{option}: write it as METRIC>=NUMBER or METRIC<=NUMBER, for example 'recall>=0.5'.")
        sides = found.setdefault(require_metric(match[1], option), {})
        side = "at_least" if match[2] == ">=" else "at_most"
        if side in sides:
            raise UserError(f"{option}: {match[1]} has such a bound already; give one for each side.")
        sides[side] = float(match[3])
    return {metric: BoundConfig(**sides) for metric, sides in found.items()}


def merged(one: Mapping[str, BoundConfig], other: Mapping[str, BoundConfig]) -> dict[str, BoundConfig]:
    """Returns the constraints of both; where both bound a side of a metric, that of `other`."""
    return {
        metric: BoundConfig(
            **{
                side: value
                for bounds in (one, other)
                if metric in bounds
                for side, value in bounds[metric].model_dump(exclude_none=True).items()
            }
        )
        for metric in dict.fromkeys([*one, *other])
    }


def in_words(constraints: Mapping[str, BoundConfig]) -> str:
    """Formats constraints: `recall >= 0.5, fid <= 20`."""
    signs = {"at_least": ">=", "at_most": "<="}
    return ", ".join(
        f"{metric} {signs[side]} {value:g}"
        for metric, bound in constraints.items()
        for side, value in bound.model_dump(exclude_none=True).items()
    )
