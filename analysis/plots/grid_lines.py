"""A metric against one of two numeric parameters, with a line for each value of the other one."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Affine2D
from numpy.typing import NDArray

from analysis.notation import figure_symbol, figure_value
from analysis.plots.style import (
    FULL,
    LOG_FROM,
    SMALL,
    house_style,
    is_numeric,
    log_ticks,
    metric_label,
    new_figure,
    thinned,
)
from analysis.statistics import summarise

HEIGHT, PANEL = 2.4, 2.2  # inches: of the figure; the width of one of two panels
METRICS = ("fid", "is")
# From dark to light with growing values; distinguishable with colour-vision deficiencies and in grey print. The yellow
# end of viridis is too light for a line on white.
PALETTE, PALETTE_END = "viridis", 0.8
MARKERS = "os^DvPX*"
# Points of different lines at the same x are shifted, so that no interval hides another: by ASIDE times the range of x
# from one line to the next, but in total by at most MOST_ASIDE times the smallest distance of two x.
ASIDE, MOST_ASIDE = 0.02, 0.3


def is_numeric_grid(summary: pd.DataFrame, axes: Sequence[str]) -> bool:
    """Whether there are two axes and all their values are finite numbers (booleans do not count)."""
    return len(axes) == 2 and all(is_numeric(summary[axis]) for axis in axes)


@house_style()
def grid_lines(frame: pd.DataFrame, axes: Sequence[str], metrics: Sequence[str] = METRICS) -> Figure:
    """Draws a panel for each metric over two numeric axes, with the 95% intervals of the means.

    Points at the same x are drawn side by side.

    Args:
        frame: a row per run: the two axes, `seed`, `outcome`, `diverged_at` and the metrics.
    """
    summary = summarise(frame, list(axes), metrics)
    figure, panels = metric_panels(metrics)
    draw_grid(figure, panels, summary, *roles(summary, axes))
    return figure


def metric_panels(metrics: Sequence[str] = METRICS) -> tuple[Figure, dict[str, Axes]]:
    """Returns a figure and its empty panels by metric, side by side."""
    figure = new_figure(FULL, HEIGHT)
    panels = dict(zip(metrics, figure.subplots(1, len(metrics), squeeze=False)[0], strict=True))
    for metric, panel in panels.items():
        panel.set_title(metric_label(metric))
    return figure, panels


def roles(summary: pd.DataFrame, axes: Sequence[str]) -> tuple[str, str]:
    """Returns the axis along x (the one with more values; the first if equal), and the axis with a line per value."""
    first, second = axes
    return (second, first) if summary[second].nunique() > summary[first].nunique() else (first, second)


def draw_grid(figure: Figure, panels: dict[str, Axes], summary: pd.DataFrame, across: str, lines: str) -> None:
    """Draws the lines in every panel, and one legend."""
    for metric, panel in panels.items():
        # A row for each x, a column for each line; NaN if a configuration is missing or has no finished run.
        means, half_widths = (
            summary.pivot(index=across, columns=lines, values=name) for name in (metric, f"{metric}_ci")
        )
        moves = sideways(means.index.tolist(), len(means.columns))
        for value, style, move in zip(means, line_styles(len(means.columns)), moves, strict=True):
            if means[value].notna().any():
                style["transform"] = Affine2D().translate(move, 0) + panel.transData
                draw_means(panel, means[value], half_widths[value], figure_value(value), style)
        scale(panel, means.index.tolist(), summary[metric].dropna().tolist())
        panel.set_xlabel(figure_symbol(across, [across, lines]))
    handles, labels = next(iter(panels.values())).get_legend_handles_labels()
    title = figure_symbol(lines, [across, lines])
    figure.legend(handles, labels, title=title, loc="outside right upper", fontsize=SMALL, title_fontsize=SMALL)


def draw_means(panel: Axes, means: pd.Series, half_widths: pd.Series, label: str, style: dict[str, Any]) -> None:
    """Draws a line through the means, indexed by x, with their intervals as error bars.

    A NaN mean leaves a gap. A NaN half-width, from a single seed, gives no error bar.
    """
    panel.errorbar(means.index, means, yerr=half_widths, label=label, **style)


def scale(panel: Axes, xs: list[float], shown: list[float]) -> None:
    """Puts ticks at the measured `xs`, and makes the y axis logarithmic if the values `shown` span a wide range."""
    at = sorted(set(xs))
    span = (at[-1] - at[0]) or 1
    names = thinned([figure_value(x) for x in at], [(x - at[0]) / span for x in at], PANEL)
    panel.set_xticks(at, names)
    if shown and min(shown) > 0 and max(shown) > LOG_FROM * min(shown):
        log_ticks(panel)


def line_styles(count: int) -> list[dict[str, Any]]:
    """Returns colours and markers for `count` lines, in the order of their values."""
    colours = matplotlib.colormaps[PALETTE](np.linspace(0, PALETTE_END, count))
    return [
        {"color": colour, "marker": MARKERS[at % len(MARKERS)], "linewidth": 1.2, "elinewidth": 0.9}
        for at, colour in enumerate(colours)
    ]


def sideways(xs: list[float], count: int) -> NDArray[np.floating]:
    """Returns the shift along x of each of `count` lines for ascending `xs`: symmetric around 0, in units of x."""
    if len(xs) < 2 or count < 2:
        return np.zeros(count)
    step = min(ASIDE * (xs[-1] - xs[0]), MOST_ASIDE * min(np.diff(xs)) / (count - 1))
    return step * (np.arange(count) - (count - 1) / 2)
