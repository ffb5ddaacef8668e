"""Means over seeds and what they are worth."""

import math
from collections.abc import Sequence

import pandas as pd
from scipy import stats

CONFIDENCE = 0.95
OUTCOMES = ("finished", "diverged", "pruned", "failed")  # how a run ends


def half_width(values: Sequence[float]) -> float | None:
    """Half of Student's 95% interval of the mean; None for a single value, of which nothing can be said."""
    count = len(values)
    assert not pd.isna(list(values)).any(), "what was not measured has to be left out"
    if count < 2:
        return None
    deviation = float(pd.Series(values).std(ddof=1))
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1)) * deviation / math.sqrt(count)


def p_value(values: Sequence[float]) -> float | None:
    """Of Student's two-sided test of the mean being 0: under 5% where 0 lies outside the 95% interval.

    None for fewer than two values, of which nothing can be said.
    """
    count = len(values)
    if count < 2:
        return None
    mean, error = float(pd.Series(values).mean()), float(pd.Series(values).sem(ddof=1))
    if error == 0:  # all values are the same
        return 1.0 if mean == 0 else 0.0
    return float(2 * stats.t.sf(abs(mean) / error, count - 1))


def seed_range(counts: Sequence[int]) -> str:
    """How many seeds there are, from each one's count: `3`, or `1 to 3` where some have not all finished."""
    least, most = min(counts), max(counts)
    return f"{most}" if least == most else f"{least} to {most}"


def summarise(frame: pd.DataFrame, axes: list[str], metrics: Sequence[str]) -> pd.DataFrame:
    """A row for each configuration: its axes, `runs`, how many of them had each outcome, METRIC and METRIC_ci.

    METRIC is NaN where no run finished, and METRIC_ci, the interval's half-width, where fewer than two did.
    """
    rows = []
    for values, group in frame.groupby(axes, sort=True, dropna=False):
        finished = group[group["outcome"] == "finished"]
        row: dict[str, object] = dict(zip(axes, values, strict=True))
        row |= {"runs": len(group), **{each: int((group["outcome"] == each).sum()) for each in OUTCOMES}}
        row["diverged_at"] = group["diverged_at"].min()
        for metric in metrics:
            numbers = finished[metric].dropna().tolist()  # without what was not measured
            row[metric] = float(pd.Series(numbers).mean()) if numbers else None
            row[f"{metric}_ci"] = half_width(numbers)
        rows.append(row)
    # A column of nothing but None would not be one of numbers.
    return pd.DataFrame(rows).astype({name: float for metric in metrics for name in (metric, f"{metric}_ci")})
