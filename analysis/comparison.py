"""Tests which configurations differ, paired by seed.

A sweep runs all its configurations with the same seeds, so much of the noise of a seed is common to them and cancels in
differences. A difference is judged by its own variation from seed to seed (Student's paired t-test), not by the
variation of each configuration. The test is also valid if there is no common noise.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import pandas as pd

from analysis.statistics import p_value, seed_range
from sweeps.spec.confidence import CONFIDENCE

Pair = tuple[pd.Series, pd.Series]  # two rows of `summarise`


@dataclass(frozen=True)
class Comparison:
    """Verdicts on pairs of configurations, with a joint confidence of 95%."""

    apart: list[Pair]  # pairs that differ
    close: list[Pair]  # pairs without a significant difference
    unknown: list[Pair]  # pairs with fewer than two finished seeds in common
    uncorrected: int  # pairs that would differ significantly without the correction for multiple tests
    seeds: str  # common seeds of the tested pairs: `3`, or `2 to 3`


def by_seed(frame: pd.DataFrame, axes: list[str], metric: str) -> pd.DataFrame:
    """Returns a metric with a row for each seed and a column for each row number of `summarise`.

    NaN marks configurations that did not finish with a seed.
    """
    columns = {}
    for number, (_, group) in enumerate(frame.groupby(axes, sort=True, dropna=False)):
        columns[number] = group[group["outcome"] == "finished"].set_index("seed")[metric]
    return pd.DataFrame(columns, dtype=float)


def differences(values: pd.DataFrame, one: pd.Series, other: pd.Series) -> list[float]:
    """Returns the differences for all seeds that both configurations finished; `values` comes from `by_seed`."""
    return list((values[one.name] - values[other.name]).dropna())


def compare(pairs: Sequence[Pair], values: pd.DataFrame) -> Comparison:
    """Tests which pairs differ, of those with at least two common seeds; `values` comes from `by_seed`."""
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
        uncorrected=sum(p < 1 - CONFIDENCE for p in p_values),
        seeds=seed_range(counts) if counts else "0",
    )


def holm(p_values: Sequence[float]) -> list[bool]:
    """Returns which of several tests are significant at a family-wise error rate of 5% (Holm 1979).

    Holm's correction holds for any dependence between the tests; neighbouring pairs depend on each other, since they
    share configurations. It is uniformly more powerful than Bonferroni's. The false discovery rate would be the wrong
    criterion: it lets one in twenty of the reported differences be false.

    Not statsmodels' `multipletests` (0.15), which finds the same and collects all garbage in each call: 0.05 to 0.6 s.
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
    """Returns the configurations that are not significantly worse than the winner, which has the lowest mean.

    With at least 95% confidence, the truly lowest configuration is among them or is the winner itself. The winner was
    selected by the same data, which Holm's correction does not account for, but Bonferroni's does: the truly lowest is
    missing only if it was found higher than some other one, and each of the `len(others)` comparisons that involve it
    finds that with a probability of at most 5% / len(others) (cf. Gupta 1965, On some multiple decision rules).

    `values` comes from `by_seed`.
    """
    level = (1 - CONFIDENCE) / len(others)
    kept = []
    for other in others:
        above = differences(values, other, winner)
        p = p_value(above)
        # The winner's mean may be the lowest over its own seeds, but not over the common seeds.
        if p is None or p >= level or sum(above) < 0:
            kept.append(other)
    return kept


def neighbours(finished: pd.DataFrame, axes: list[str]) -> Iterator[Pair]:
    """Yields the pairs of rows that differ by one step of one axis."""
    for axis in axes:
        others = [each for each in axes if each != axis]
        groups = [group for _, group in finished.groupby(others, dropna=False)] if others else [finished]
        for group in groups:
            # As objects, because a row of numbers only would turn integers into floats.
            rows = [row for _, row in group.sort_values(axis).astype(object).iterrows()]
            yield from pairwise(rows)
