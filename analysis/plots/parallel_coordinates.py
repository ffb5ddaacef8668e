"""The parameters and the objective of a search's trials, as lines through parallel axes."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from analysis.axis_values import NOT_DRAWN_TEXT
from analysis.notation import figure_symbol, figure_value
from analysis.plots.style import (
    FULL,
    OURS,
    PAPER,
    SMALL,
    house_style,
    in_clauses,
    is_numeric,
    metric_label,
    new_figure,
)
from sweeps.spec.metric import better

HEIGHT = 2.6  # inches
GOOD = 5  # best trials that are drawn in colour, the winner among them
OTHERS = "0.8"  # grey of the other trials
LOG_FROM = 10.0  # largest / smallest value above which an axis is logarithmic
EDGE = 0.04  # room beyond the outermost values, as a share of an axis


@house_style()
def parallel_coordinates(trials: pd.DataFrame, axes: Sequence[str], metric: str) -> Figure:
    """Draws a line for each trial with a value: the winner thick, the next best in colour, the others grey.

    An axis is logarithmic if its positive values span more than a factor of ten; values that are no numbers are evenly
    spaced. The objective is the last axis, with its better end at the top.

    Args:
        trials: a row per configuration, best first: the axes and the metric.
    """
    shown = trials.dropna(subset=[metric])
    names = [*axes, metric]
    figure = new_figure(FULL, HEIGHT)
    base = figure.subplots()
    heights = {}
    for at, name in enumerate(names):
        panel = base if at == 0 else base.twinx()
        heights[name] = draw_axis(panel, shown[name], turned=name == metric and better(metric) == "min")
        panel.grid(visible=False)
        for side in ("right", "left", "top", "bottom"):
            panel.spines[side].set_visible(side == "left")
        panel.spines["left"].set_position(("data", at))
        panel.yaxis.set_ticks_position("left")
        panel.tick_params(axis="x", length=0)
        for label in panel.get_yticklabels():
            label.set_bbox({"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 0.5})
    lines = pd.DataFrame(heights)
    inches = FULL / len(names)
    for rank in range(len(shown) - 1, -1, -1):
        colour = PAPER if rank == 0 else OURS if rank < GOOD else OTHERS
        width = 1.8 if rank == 0 else 1.0 if rank < GOOD else 0.6
        base.plot(
            range(len(names)),
            lines.iloc[rank],
            color=colour,
            linewidth=width,
            transform=base.get_xaxis_transform(),
            zorder=1,
        )
    titles = [in_clauses(figure_symbol(axis, axes), inches) for axis in axes]
    base.set_xticks(range(len(names)), [*titles, metric_label(metric)], fontsize=SMALL)
    base.set_xlim(0, len(names) - 1)
    return figure


def draw_axis(panel: Axes, values: pd.Series, *, turned: bool) -> list[float]:
    """Gives a panel the scale and the ticks of these values; returns each one's height, 0 to 1, NaN if not drawn."""
    if is_numeric(values):
        numbers = values.astype(float).to_numpy()
    else:
        known = sorted({value for value in values if str(value) != NOT_DRAWN_TEXT})
        numbers = np.array([known.index(value) if value in known else np.nan for value in values], dtype=float)
        panel.set_yticks(range(len(known)), [figure_value(value) for value in known])
    low, high = float(np.nanmin(numbers)), float(np.nanmax(numbers))
    scale = np.log if is_numeric(values) and low > 0 and high > LOG_FROM * low else np.asarray
    if scale is np.log:
        panel.set_yscale("log")
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.yaxis.set_major_formatter("{x:g}")
        panel.minorticks_off()
    elif is_numeric(values):
        panel.yaxis.set_major_locator(MaxNLocator(5))
    ends = np.asarray(scale(np.array([low, high])), dtype=float)
    room = EDGE * (ends[1] - ends[0]) or 0.5
    bottom, top = ends[0] - room, ends[1] + room
    limits = (np.exp(bottom), np.exp(top)) if scale is np.log else (bottom, top)
    panel.set_ylim(*(limits[::-1] if turned else limits))
    heights = (np.asarray(scale(numbers), dtype=float) - bottom) / (top - bottom)
    return list(1 - heights if turned else heights)
