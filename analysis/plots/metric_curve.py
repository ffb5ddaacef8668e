"""A metric against one parameter, with 95% intervals, the single seeds and the paper's curve."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation

from analysis.notation import figure_symbol, figure_value
from analysis.paper import PaperAblation
from analysis.plots.broken_axis import Interval, panels
from analysis.plots.style import (
    DIVERGED,
    FAINT,
    FULL,
    LOG_FROM,
    OURS,
    OURS_NULL,
    PAPER,
    SMALL,
    align_left,
    house_style,
    in_clauses,
    is_geometric,
    is_numeric,
    log_ticks,
    metric_label,
    new_figure,
    thinned,
    wrapped,
)
from analysis.statistics import summarise
from sweeps.spec.metric import better

ROW_HEIGHT, REST = 1.55, 0.75  # inches: of a metric's panels; of titles and the axis' name
EDGE = 0.45  # inches: tick labels and the axis' name beside a panel
ASIDE = 5  # points: the seeds beside their mean
SIDE = 0.12  # margin beside the outermost values, as a share of the range


@dataclass(frozen=True)
class Series:
    """What one panel shows, by value of the axis."""

    means: pd.Series
    half_widths: pd.Series  # NaN without an interval
    seeds: pd.Series  # a value for each finished run; the axis' value is its index
    colour: str
    marker: str
    dashed: bool = False

    @property
    def intervals(self) -> list[Interval]:
        """What the panel's y axis must show of each value: the interval and the seeds."""
        means = self.means.dropna()
        widths = self.half_widths.reindex(means.index).fillna(0)
        by_value = self.seeds.groupby(level=0)
        lowest, highest = by_value.min().reindex(means.index), by_value.max().reindex(means.index)
        low = lowest.fillna(means).combine(means - widths, min)
        return list(zip(low, highest.fillna(means).combine(means + widths, max), strict=True))


@house_style()
def metric_curve(
    frame: pd.DataFrame,
    axis: str,
    metrics: Sequence[str] = ("fid", "is"),
    paper: PaperAblation | None = None,
    *,
    without_label: bool = True,
    width: float = FULL,
) -> Figure:
    """Draws a row of panels for each metric: ours, ours without class label, the paper's.

    Each panel has a y axis of its own, since the numbers of different datasets and extractors do not compare; the y
    axis is broken where one value would flatten the others (`broken_axis`). Means have 95% t intervals where two seeds
    or more finished; faint points are the seeds. A configuration that diverged is marked at the worse edge.

    Args:
        frame: a row per run: the axis, `seed`, `outcome`, `diverged_at` and the metrics.
        metrics: columns of the frame, the first row's first; those without a number are left out.
        without_label: whether to draw the metrics with the suffix `_null` too.
    """
    summary = summarise(frame, [axis], [name for metric in metrics for name in (metric, f"{metric}_null")])
    metrics = [metric for metric in metrics if summary[metric].notna().any()] or list(metrics[:1])
    suffixes = [""] + ["_null"] * (without_label and any(summary[f"{each}_null"].notna().any() for each in metrics))
    beside = paper if paper and is_numeric(summary[axis]) else None
    columns = len(suffixes) + (beside is not None)
    figure = new_figure(width, ROW_HEIGHT * len(metrics) + REST)
    grid = figure.add_gridspec(len(metrics), columns)
    inches = width / columns - EDGE
    titles = ["ours", *["ours, no class label"] * (len(suffixes) - 1)]
    titles += [f"paper: {beside.setting}"] if beside else []
    above = same_height([in_clauses(title, inches) for title in titles])
    in_columns: list[list[Axes]] = [[] for _ in range(columns)]
    for row, metric in enumerate(metrics):
        drawn = [ours(frame, summary, axis, f"{metric}{suffix}") for suffix in suffixes]
        if beside:
            drawn.append(theirs(beside, metric))
        for column, series in enumerate(drawn):
            parts, broken = panels(figure, grid[row, column], series.intervals, floor=0)
            place = positions(summary[axis])
            for part in parts:
                draw(part, series, place)
            scale_y(parts, series, broken is not None)
            if column < len(suffixes):
                mark_unfinished(parts, summary, axis, metric, place)
            scale_x(parts, summary[axis], place, inches, named=row == len(metrics) - 1)
            in_columns[column] += parts
            if row == 0 and columns > 1:
                parts[-1].set_title(above[column], fontsize=SMALL)
            if column == 0:
                larger = parts[0] if broken is None or broken.high_share < 0.5 else parts[-1]
                larger.set_ylabel(metric_label(metric))
    align_left(in_columns)
    return figure


def same_height(titles: Sequence[str]) -> list[str]:
    """Returns the titles with empty lines in front, so that all have as many lines."""
    most = max(title.count("\n") for title in titles)
    return ["\n" * (most - title.count("\n")) + title for title in titles]


def ours(frame: pd.DataFrame, summary: pd.DataFrame, axis: str, metric: str) -> Series:
    """Returns a metric of ours by value of the axis."""
    by_value = summary.set_index(axis)
    finished = frame[frame["outcome"] == "finished"].set_index(axis)[metric]
    colour, marker = (OURS_NULL, "s") if metric.endswith("_null") else (OURS, "o")
    return Series(by_value[metric], by_value[f"{metric}_ci"], finished.astype(float), colour, marker)


def theirs(paper: PaperAblation, metric: str) -> Series:
    """Returns the paper's numbers, which have no intervals."""
    values = pd.Series([float(text) for text in paper.printed.get(metric, ())], dtype=float)
    values.index = pd.Index(paper.values[: len(values)])
    none = pd.Series(dtype=float)
    return Series(values, none.reindex(values.index), none, PAPER, "D", dashed=True)


def positions(values: pd.Series) -> dict[object, float]:
    """Returns where each value stands on the x axis: numbers at themselves, others evenly spaced."""
    return {value: float(value) if is_numeric(values) else float(at) for at, value in enumerate(values)}


def draw(panel: Axes, series: Series, place: dict[object, float]) -> None:
    """Draws the seeds, the means and their intervals; values that are no numbers are not connected."""
    style: dict[str, Any]
    connected = all(isinstance(value, int | float) for value in series.means.index)
    line = ("--" if series.dashed else "-") if connected else "none"

    def at(values: pd.Series) -> list[float]:
        return [place.get(value, value) for value in values.index]

    if (series.seeds.groupby(level=0).count() > 1).any():
        aside = panel.transData + ScaledTranslation(-ASIDE / 72, 0, panel.figure.dpi_scale_trans)
        style = {"color": series.colour, "alpha": FAINT, "markersize": 5, "mew": 0, "transform": aside}
        panel.plot(at(series.seeds), series.seeds, ".", label="seeds", **style)
    style = {"color": series.colour, "marker": series.marker, "linestyle": line}
    panel.errorbar(at(series.means), series.means, yerr=series.half_widths, label="mean", **style)


def mark_unfinished(
    parts: Sequence[Axes], summary: pd.DataFrame, axis: str, metric: str, place: dict[object, float]
) -> None:
    """Marks the configurations with diverged runs by a cross at the worse edge of the y axis.

    If no run finished, it says at which step the first one diverged, since the table's other cells are empty.
    """
    worse_is_high = better(metric) == "min"
    panel, edge = (parts[-1], 1.0) if worse_is_high else (parts[0], 0.0)
    to_edge = panel.get_xaxis_transform()
    for row in summary[summary["diverged"] > 0].to_dict("records"):
        x = place[row[axis]]
        panel.plot(x, edge, "x", color=DIVERGED, transform=to_edge, clip_on=False, markersize=5, mew=1.2)
        words = f"{row['diverged']} of {row['runs']} diverged"
        if not row["finished"]:
            words = f"diverged at step {row['diverged_at']:.0f}"
        panel.annotate(
            words,
            (x, edge),
            xycoords=to_edge,
            xytext=(0, -6 if worse_is_high else 6),
            textcoords="offset points",
            rotation=90,
            ha="center",
            va="top" if worse_is_high else "bottom",
            fontsize=SMALL,
        )


def scale_y(parts: Sequence[Axes], series: Series, broken: bool) -> None:
    """Makes an unbroken y axis logarithmic if its positive values span a wide range."""
    ends = [end for interval in series.intervals for end in interval]
    if not broken and ends and min(ends) > 0 and max(ends) > LOG_FROM * min(ends):
        log_ticks(parts[0])


def scale_x(
    parts: Sequence[Axes], values: pd.Series, place: dict[object, float], inches: float, *, named: bool
) -> None:
    """Puts ticks at the axis' values, on a logarithmic scale if they are spaced so; names the axis if asked to."""
    at, axis = list(place.values()), str(values.name)
    numeric = is_numeric(values)
    lowest = parts[0]
    if numeric and is_geometric(at):
        for part in parts:
            part.set_xscale("log")
            part.set_xlim(at[0] * (at[0] / at[-1]) ** SIDE, at[-1] * (at[-1] / at[0]) ** SIDE)
            part.minorticks_off()
        shares = [relative_log(x, at) for x in at]
    else:
        side = SIDE * (max(at) - min(at)) or 0.5
        side = side if numeric else 0.5
        for part in parts:
            part.set_xlim(min(at) - side, max(at) + side)
        shares = [(x - min(at)) / ((max(at) - min(at)) or 1) for x in at]
    names = [figure_value(value) for value in values]
    narrow = inches / len(names)
    lowest.set_xticks(at, thinned(names, shares, inches) if numeric else [wrapped(name, narrow) for name in names])
    if named:
        lowest.set_xlabel(figure_symbol(axis, [axis]))


def relative_log(x: float, at: Sequence[float]) -> float:
    """Returns where x lies between the first and the last value on a logarithmic axis: 0 to 1."""
    import math

    return math.log(x / at[0]) / math.log(at[-1] / at[0])
