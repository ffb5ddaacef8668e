"""Grids of several axes in smaller tables: each axis' main effect, and each configuration at its best guidance."""

from collections.abc import Sequence

import pandas as pd

from analysis.notation import symbol
from analysis.tables import COLUMNS, NOT_MEASURED, Table, cell
from sweeps.spec.confidence import half_width
from sweeps.spec.metric import better
from sweeps.spec.naming import shown

GUIDANCE = "sampling.cfg"
METRICS = ("fid", "is", "precision", "recall")


def main_effects(frame: pd.DataFrame, axes: Sequence[str], metrics: Sequence[str] = METRICS) -> pd.DataFrame:
    """Returns a row for each value of each axis: `axis`, `value`, `seeds`, and METRIC and METRIC_ci.

    METRIC is the mean over the other axes and the seeds. The interval is over the seeds' means: what the other axes do
    is the same for each seed, and no luck. Only points of the other axes count that every value of the axis finished
    with every seed, so that all values are averages over the same points. Values that finished nowhere are left out of
    this rule and have NaN, as all have if no point is left.
    """
    finished = frame[frame["outcome"] == "finished"]
    rows = []
    for axis in axes:
        others = [each for each in axes if each != axis]
        runs = finished.groupby(axis, dropna=False).ngroups * frame["seed"].nunique()
        points = finished.groupby(others, sort=True, dropna=False).filter(lambda point, n=runs: len(point) == n)
        for value, _ in frame.groupby(axis, sort=True, dropna=False):
            at = points[points[axis].map(lambda each, v=value: each == v).astype(bool)]
            row: dict[str, object] = {"axis": axis, "value": value, "seeds": at["seed"].nunique()}
            for metric in metrics:
                means = at.groupby("seed")[metric].mean().dropna().tolist()
                row |= {metric: sum(means) / len(means) if means else None, f"{metric}_ci": half_width(means)}
            rows.append(row)
    floats = {name: float for metric in metrics for name in (metric, f"{metric}_ci")}
    # As objects, so that whole numbers of one axis stay so beside fractions of another.
    return pd.DataFrame(rows).astype(floats).assign(value=pd.Series([row["value"] for row in rows], dtype=object))


def main_effects_table(frame: pd.DataFrame, axes: list[str]) -> Table:
    """Returns the main effects as a table of text cells."""
    effects = main_effects(frame, axes)
    rows = []
    for _, row in effects.astype(object).iterrows():
        cells = {COLUMNS[metric][0]: cell_of(row, metric) for metric in METRICS}
        rows.append({"parameter": symbol(row["axis"], axes), "value": shown(row["value"]), **cells})
    return Table(pd.DataFrame(rows), (), {COLUMNS[metric][0]: metric for metric in METRICS})


def cell_of(row: pd.Series, metric: str) -> str:
    """Formats an effect: `12.34 ± 0.56`."""
    decimals = COLUMNS[metric][1]
    interval = "" if pd.isna(row[f"{metric}_ci"]) else f" ± {row[f'{metric}_ci']:.{decimals}f}"
    return NOT_MEASURED if pd.isna(row[metric]) else f"{row[metric]:.{decimals}f}{interval}"


def at_best_guidance(summary: pd.DataFrame, axes: Sequence[str], objective: str) -> pd.DataFrame:
    """Returns the rows of `summary` with the best guidance for each configuration of the other axes.

    A fair comparison tunes guidance for each model. The best is chosen by the mean over the seeds that also give its
    number, so that each is too good by some luck; with equal numbers of guidance scales, for all rows alike.
    """
    others = [axis for axis in axes if axis != GUIDANCE]
    ordered = summary.dropna(subset=[objective]).sort_values(objective, ascending=better(objective) == "min")
    chosen = ordered.groupby(others, sort=False, dropna=False).head(1).index
    return summary.loc[sorted(chosen)]


def best_guidance_table(summary: pd.DataFrame, axes: list[str], objective: str) -> Table:
    """Returns the configurations at their best guidance as a table of text cells; guidance is a column."""
    rows = []
    for _, row in at_best_guidance(summary, axes, objective).astype(object).iterrows():
        parameters = {symbol(axis, axes): shown(row[axis]) for axis in axes}
        rows.append(parameters | {COLUMNS[each][0]: cell(row, each, COLUMNS[each][1]) for each in METRICS})
    return Table(pd.DataFrame(rows), axes, {COLUMNS[metric][0]: metric for metric in METRICS})
