"""Means over seeds and their uncertainty."""

from collections.abc import Sequence

import pandas as pd
from scipy import stats

from sweeps.spec.confidence import half_width

OUTCOMES = ("finished", "diverged", "pruned", "failed")  # how a run ends


def p_value(values: Sequence[float]) -> float | None:
    """Returns the p-value of Student's two-sided t-test that the mean is 0; None for fewer than two values.

    It is below 5% exactly if 0 lies outside the 95% interval.
    """
    count = len(values)
    if count < 2:
        return None
    mean, error = float(pd.Series(values).mean()), float(pd.Series(values).sem(ddof=1))
    if error == 0:  # all values are the same
        return 1.0 if mean == 0 else 0.0
    return float(2 * stats.t.sf(abs(mean) / error, count - 1))


def seed_range(counts: Sequence[int]) -> str:
    """Formats the number of seeds of several configurations: `3`, or `1 to 3` if they differ."""
    least, most = min(counts), max(counts)
    return f"{most}" if least == most else f"{least} to {most}"


def summarise(frame: pd.DataFrame, axes: list[str], metrics: Sequence[str]) -> pd.DataFrame:
    """Returns a row for each configuration: its axes, `runs`, the count of each outcome, METRIC and METRIC_ci.

    METRIC is the mean, NaN if no run finished. METRIC_ci is the interval's half-width, NaN if fewer than two finished.
    """
    rows = []
    for values, group in frame.groupby(axes, sort=True, dropna=False):
        finished = group[group["outcome"] == "finished"]
        row: dict[str, object] = dict(zip(axes, values, strict=True))
        row |= {"runs": len(group), **{each: int((group["outcome"] == each).sum()) for each in OUTCOMES}}
        row["diverged_at"] = group["diverged_at"].min()
        for metric in metrics:
            numbers = finished[metric].dropna().tolist()  # NaN: not measured
            row[metric] = float(pd.Series(numbers).mean()) if numbers else None
            row[f"{metric}_ci"] = half_width(numbers)
        rows.append(row)
    # As float, because a column with only None would not be numeric.
    return pd.DataFrame(rows).astype({name: float for metric in metrics for name in (metric, f"{metric}_ci")})
