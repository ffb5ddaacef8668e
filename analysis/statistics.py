"""Means over seeds and what they are worth."""

import math
from collections.abc import Sequence

import pandas as pd
from scipy import stats

CONFIDENCE = 0.95


def half_width(values: Sequence[float]) -> float | None:
    """Half of Student's 95% interval of the mean; None for a single value, of which nothing can be said."""
    count = len(values)
    if count < 2:
        return None
    deviation = float(pd.Series(values).std(ddof=1))
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1)) * deviation / math.sqrt(count)


def seed_range(summary: pd.DataFrame) -> str:
    """How many seeds each configuration of `summarise` has: `3`, or `1 to 3` where some have not all ended."""
    least, most = summary["runs"].min(), summary["runs"].max()
    return f"{most}" if least == most else f"{least} to {most}"


def summarise(frame: pd.DataFrame, axes: list[str], metrics: Sequence[str]) -> pd.DataFrame:
    """A row for each configuration: its axes, `runs`, `diverged`, METRIC and METRIC_ci.

    METRIC is NaN where no run finished, and METRIC_ci, the interval's half-width, where fewer than two did.
    """
    rows = []
    for values, group in frame.groupby(axes, sort=True, dropna=False):
        finished = group[group["outcome"] == "finished"]
        row: dict[str, object] = dict(zip(axes, values, strict=True))
        row |= {"runs": len(group), "diverged": len(group) - len(finished), "diverged_at": group["diverged_at"].min()}
        for metric in metrics:
            numbers = finished[metric].tolist()
            row[metric] = float(pd.Series(numbers).mean()) if numbers else None
            row[f"{metric}_ci"] = half_width(numbers)
        rows.append(row)
    # A column of nothing but None would not be one of numbers.
    return pd.DataFrame(rows).astype({name: float for metric in metrics for name in (metric, f"{metric}_ci")})
