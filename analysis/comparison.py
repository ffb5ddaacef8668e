"""Which configurations differ, compared seed by seed.

A sweep runs all its configurations with the same seeds, so much of a seed's luck is theirs in common and falls out of
the differences: a difference is judged by how it varies from seed to seed (Student's paired t-test), not by how each of
the two varies. Where they have no luck in common that is right too.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import pandas as pd

from analysis.statistics import CONFIDENCE, p_value, seed_range

Pair = tuple[pd.Series, pd.Series]  # two rows of `summarise`


@dataclass(frozen=True)
class Comparison:
    """Pairs of configurations, judged together."""

    apart: list[Pair]  # with 95% confidence all of them differ
    close: list[Pair]
    unknown: list[Pair]  # with fewer than two finished seeds in common nothing can be said
    alone: int  # how many pairs would be told apart if each were the only one
    seeds: str  # that the apart and the close have in common: `3`, or `2 to 3`


def by_seed(frame: pd.DataFrame, axes: list[str], metric: str) -> pd.DataFrame:
    """The metric with a row for each seed and a column for each row of `summarise`, by its number.

    NaN where the configuration did not finish with the seed.
    """
    columns = {}
    for number, (_, group) in enumerate(frame.groupby(axes, sort=True, dropna=False)):
        columns[number] = group[group["outcome"] == "finished"].set_index("seed")[metric]
    return pd.DataFrame(columns, dtype=float)


def differences(values: pd.DataFrame, one: pd.Series, other: pd.Series) -> list[float]:
    """One for each seed that both configurations finished; `values` is of `by_seed`."""
    return list((values[one.name] - values[other.name]).dropna())


def compare(pairs: Sequence[Pair], values: pd.DataFrame) -> Comparison:
    """Which pairs differ, of all that have two seeds or more in common; `values` is of `by_seed`."""
    known: list[tuple[Pair, float]] = []
    unknown, counts = [], []
    for pair in pairs:
        paired = differences(values, *pair)
        if (p := p_value(paired)) is None:
            unknown.append(pair)
        else:
            known.append((pair, p))
            counts.append(len(paired))
    p_values = [p for _, p in known]
    verdicts = holm(p_values)
    return Comparison(
        apart=[pair for (pair, _), differ in zip(known, verdicts, strict=True) if differ],
        close=[pair for (pair, _), differ in zip(known, verdicts, strict=True) if not differ],
        unknown=unknown,
        alone=sum(p < 1 - CONFIDENCE for p in p_values),
        seeds=seed_range(counts) if counts else "0",
    )


def holm(p_values: Sequence[float]) -> list[bool]:
    """Which of several tests find something, so that with 95% confidence every find is real (Holm 1979).

    It asks nothing of how the tests depend on each other, and neighbouring pairs do, having configurations in common.
    It finds what Bonferroni's correction finds, and more. Control of the false discovery rate would not do: that allows
    one in twenty of the finds to be wrong.
    """
    finds = [False] * len(p_values)
    for left, at in zip(
        range(len(p_values), 0, -1), sorted(range(len(p_values)), key=p_values.__getitem__), strict=True
    ):
        if p_values[at] >= (1 - CONFIDENCE) / left:
            break
        finds[at] = True
    return finds


def not_worse(winner: pd.Series, others: Sequence[pd.Series], values: pd.DataFrame) -> list[pd.Series]:
    """The configurations that can't be told apart from the one with the lowest mean; `values` is of `by_seed`.

    With 95% confidence at least, the one that is truly lowest is among them or the winner itself. The data chose the
    winner, which Holm's correction does not allow for, but Bonferroni's does: the truly lowest is missing only if it
    was found higher than some other, and each of the `len(others)` comparisons that it takes part in finds that with a
    probability of 5% / len(others) at most (as Gupta 1965, On some multiple decision rules).
    """
    level = (1 - CONFIDENCE) / len(others)
    kept = []
    for other in others:
        above = differences(values, other, winner)
        p = p_value(above)
        # The winner's mean can be the lowest for its own seeds, and not for those that both finished.
        if p is None or p >= level or sum(above) < 0:
            kept.append(other)
    return kept


def neighbours(finished: pd.DataFrame, axes: list[str]) -> Iterator[Pair]:
    """Pairs of rows that differ in one axis, by one of its steps."""
    for axis in axes:
        others = [each for each in axes if each != axis]
        groups = [group for _, group in finished.groupby(others, dropna=False)] if others else [finished]
        for group in groups:
            # As objects, for a row of numbers alone would turn the whole ones into fractions.
            rows = [row for _, row in group.sort_values(axis).astype(object).iterrows()]
            yield from pairwise(rows)
