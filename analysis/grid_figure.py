"""The figure of a sweep over two numeric axes: FID and IS against one axis, a line for each value of the other."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Affine2D
from numpy.typing import NDArray

from analysis.figures import draw_means, metric_figure, scale
from analysis.notation import figure_symbol, figure_value

NOTE = "Points at the same x are drawn side by side."
# From dark to light with growing values; distinguishable with colour-vision deficiencies and in grey print. The yellow
# end of viridis is too light for a line on white.
PALETTE, PALETTE_END = "viridis", 0.8
MARKERS = "os^DvPX*"
# Points of different lines at the same x are shifted, so that no interval hides another: by ASIDE times the range of x
# from one line to the next, but in total by at most MOST_ASIDE times the smallest distance of two x.
ASIDE, MOST_ASIDE = 0.02, 0.3


def is_numeric_grid(summary: pd.DataFrame, axes: list[str]) -> bool:
    """Whether there are two axes and all their values are numbers (booleans do not count)."""
    return len(axes) == 2 and all(
        pd.api.types.is_numeric_dtype(summary[axis])
        and not pd.api.types.is_bool_dtype(summary[axis])
        and np.isfinite(summary[axis]).all()  # null becomes NaN
        for axis in axes
    )


def save_grid_figure(path: Path, summary: pd.DataFrame, axes: list[str], caption: str) -> None:
    """Saves a figure with two panels, FID and IS over a numeric grid; `caption` states the evaluation conditions."""
    across, lines = roles(summary, axes)
    with metric_figure(path, figure_symbol(across, axes), f"{caption} {NOTE}") as (figure, panels):
        draw_grid(figure, panels, summary, across, lines)


def roles(summary: pd.DataFrame, axes: list[str]) -> tuple[str, str]:
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
    handles, labels = panels["fid"].get_legend_handles_labels()
    figure.legend(handles, labels, title=figure_symbol(lines, [across, lines]), loc="outside right upper", fontsize=8)


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
