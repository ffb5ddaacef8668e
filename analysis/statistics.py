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


def summarise(frame: pd.DataFrame, axes: list[str], metrics: Sequence[str]) -> pd.DataFrame:
    """A row for each configuration: its axes, `runs`, `diverged`, and METRIC and METRIC_ci (None for one seed)."""
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
    return pd.DataFrame(rows)
