"""Common parts of the figures: a panel each for FID and IS against a parameter, the style, the caption."""

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from ear.files.writing import write_atomically

HEADINGS = {"fid": "FID (lower is better)", "is": "Inception score (higher is better)"}
CAPTION_WIDTH = 150  # characters of 6 pt that fit the figure's width
NO_BREAK_SPACE = "\N{NO-BREAK SPACE}"
LOG_FROM = 4.0  # largest / smallest value above which the y axis is logarithmic

STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "svg.fonttype": "none",
}


@contextmanager
def metric_figure(path: Path, across: str, caption: str) -> Iterator[tuple[Figure, dict[str, Axes]]]:
    """Yields a figure and its panels by metric, to draw in; then saves it to `path` as PNG.

    `across` labels the x axis; `caption` states the evaluation conditions.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 3.3), dpi=200, layout="constrained")
        panels = dict(zip(HEADINGS, figure.subplots(1, 2), strict=True))
        for metric, panel in panels.items():
            panel.set_xlabel(across)
            panel.set_title(HEADINGS[metric], loc="left", fontsize=9)
        figure.supxlabel(wrap_caption(caption, CAPTION_WIDTH), fontsize=6, color="0.35", parse_math=False)
        yield figure, panels
        write_atomically(path, lambda temporary: figure.savefig(temporary, format="png"))


def wrap_caption(caption: str, width: int) -> str:
    """Wraps a caption after semicolons into lines of at most `width` characters; a longer clause stays whole."""
    clauses = (clause.replace(" ", NO_BREAK_SPACE) for clause in caption.split("; "))
    return textwrap.fill("; ".join(clauses), width, break_long_words=False, break_on_hyphens=False)


def draw_means(panel: Axes, means: pd.Series, half_widths: pd.Series, label: str, style: dict[str, Any]) -> None:
    """Draws a line through the means, indexed by x, with their intervals as error bars.

    A NaN mean leaves a gap. A NaN half-width, from a single seed, gives no error bar.
    """
    panel.errorbar(means.index, means, yerr=half_widths, markersize=4, capsize=2, label=label, **style)


def scale(panel: Axes, xs: list[float], shown: list[float]) -> None:
    """Puts ticks at the measured `xs`, and makes the y axis logarithmic if the values `shown` span a wide range."""
    panel.set_xticks(sorted(set(xs)))
    if shown and min(shown) > 0 and max(shown) > LOG_FROM * min(shown):
        panel.set_yscale("log")
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        panel.yaxis.set_minor_formatter(NullFormatter())
