"""A metric over two parameters, as a map with the numbers in its cells."""

from collections.abc import Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from analysis.comparison import by_seed, not_worse
from analysis.notation import figure_symbol, figure_value
from analysis.plots.style import (
    COLUMN,
    FULL,
    LOG_FROM,
    SMALL,
    VERMILION,
    house_style,
    metric_label,
    new_figure,
    wrapped,
)
from analysis.statistics import summarise
from sweeps.spec.metric import better

CELL = 0.42, 0.26  # inches: the least width and the height of a cell
REST = 0.75  # inches: of the title and the x axis
NAMES = 0.7  # inches: of the y axis
PALETTE = "cividis"  # made for colour-vision deficiencies; its lightness is monotone
LIGHT = 0.5  # luminance above which numbers are black
INSET = 0.05  # of outlines, as a share of a cell
NO_VALUE = "0.92"  # grey of cells without a finished run


@house_style()
def heat_map(frame: pd.DataFrame, axes: Sequence[str], metric: str = "fid") -> Figure:
    """Draws the means over two parameters, lighter where better; the one with more values along x.

    A thick outline marks the best mean, thin ones the configurations that can't be told apart from it
    (`comparison.not_worse`); with one seed there is no test, and only the best is outlined. Cells without a finished
    run say how the runs ended.

    Args:
        frame: a row per run: the two axes, `seed`, `outcome`, `diverged_at` and the metric.
    """
    down, across = axes
    if frame[down].nunique() > frame[across].nunique():
        down, across = across, down
    summary = summarise(frame, list(axes), [metric])
    rows, columns = (sorted(summary[axis].unique()) for axis in (down, across))
    width = COLUMN if NAMES + CELL[0] * len(columns) <= COLUMN else FULL
    figure = new_figure(width, CELL[1] * len(rows) + REST)
    panel = figure.subplots()
    cells = summary.pivot(index=down, columns=across, values=metric).reindex(index=rows, columns=columns)
    values = np.ma.masked_invalid(cells.to_numpy(dtype=float))
    colours = matplotlib.colormaps[f"{PALETTE}_r" if better(metric) == "min" else PALETTE].with_extremes(bad=NO_VALUE)
    norm = scale_of(values)
    panel.imshow(values, cmap=colours, norm=norm, aspect="auto")
    at = {
        value: (rows.index(value[0]), columns.index(value[1]))
        for value in summary[[down, across]].itertuples(index=False, name=None)
    }
    digits = digits_of(values)
    for _, row in summary.iterrows():
        y, x = at[row[down], row[across]]
        shade = matplotlib.colors.rgb_to_hsv(colours(norm(row[metric]))[:3])[2] if row["finished"] else 1.0
        words = f"{row[metric]:.{digits}f}" if row["finished"] else "div." if row["diverged"] else "–"
        panel.text(x, y, words, ha="center", va="center", fontsize=SMALL, color="black" if shade > LIGHT else "white")
    for number, index in enumerate(best_ones(frame, summary, list(axes), metric)):
        y, x = at[summary.loc[index, down], summary.loc[index, across]]
        panel.add_patch(
            Rectangle(
                (x - 0.5 + INSET, y - 0.5 + INSET),
                1 - 2 * INSET,
                1 - 2 * INSET,
                fill=False,
                edgecolor=VERMILION,
                linewidth=0.8 if number else 2.2,
            )
        )
    panel.set_xticks(range(len(columns)), [figure_value(value) for value in columns])
    panel.set_yticks(range(len(rows)), [wrapped(figure_value(value), NAMES) for value in rows])
    panel.tick_params(length=0)
    panel.grid(visible=False)
    panel.spines[:].set_visible(False)
    panel.set_xlabel(figure_symbol(across, axes))
    panel.set_ylabel(figure_symbol(down, axes))
    panel.set_title(metric_label(metric))
    return figure


def scale_of(values: np.ma.MaskedArray) -> Normalize:
    """Returns the scale of the colours: logarithmic if the positive values span a wide range."""
    found = values.compressed()
    if not len(found):
        return Normalize(0, 1)
    low, high = float(found.min()), float(found.max())
    return LogNorm(low, high) if low > 0 and high > LOG_FROM * low else Normalize(low, high)


def digits_of(values: np.ma.MaskedArray) -> int:
    """Returns how many decimals tell the values apart: three digits of the largest one."""
    largest = max(map(abs, values.compressed()), default=1.0)
    return 0 if largest >= 100 else 1 if largest >= 10 else 2 if largest >= 1 else 3


def best_ones(frame: pd.DataFrame, summary: pd.DataFrame, axes: list[str], metric: str) -> list[int]:
    """Returns the rows of the best mean, first, and of those that can't be told apart from it."""
    finished = summary.dropna(subset=[metric])
    if finished.empty:
        return []
    sign = 1 if better(metric) == "min" else -1  # `not_worse` takes the lowest for the best
    signed = finished.assign(**{metric: sign * finished[metric]})
    best = signed[metric].idxmin()
    values = sign * by_seed(frame, axes, metric)
    others = [row for index, row in signed.astype(object).iterrows() if index != best]
    if not others or len(values) < 2:
        return [best]
    return [best, *(row.name for row in not_worse(signed.astype(object).loc[best], others, values))]
