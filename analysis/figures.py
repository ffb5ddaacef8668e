"""What the figures share: a panel for FID and one for IS against a parameter, the style, the caption."""

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
CAPTION_WIDTH = 150  # characters of 6 points across the figure
NO_BREAK_SPACE = "\N{NO-BREAK SPACE}"
LOG_FROM = 4.0  # ratio of largest to smallest from which an axis is logarithmic

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
    """A figure to draw in, written to `path` as PNG once it is drawn: metric -> its panel, `across` on the x axis.

    `caption` says what was measured with what.
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
    """Lines of at most `width` characters where its clauses allow, broken after a semicolon only."""
    clauses = (clause.replace(" ", NO_BREAK_SPACE) for clause in caption.split("; "))
    return textwrap.fill("; ".join(clauses), width, break_long_words=False, break_on_hyphens=False)


def draw_means(panel: Axes, means: pd.Series, half_widths: pd.Series, label: str, style: dict[str, Any]) -> None:
    """A line through the means, indexed by their x, with their intervals as error bars.

    A mean that is NaN leaves a gap; one whose half-width is NaN, of a single seed, has no bar.
    """
    panel.errorbar(means.index, means, yerr=half_widths, markersize=4, capsize=2, label=label, **style)


def scale(panel: Axes, xs: list[float], shown: list[float]) -> None:
    """Ticks where something was measured; a logarithmic y axis where the values `shown`, if any, span much."""
    panel.set_xticks(sorted(set(xs)))
    if shown and min(shown) > 0 and max(shown) > LOG_FROM * min(shown):
        panel.set_yscale("log")
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        panel.yaxis.set_minor_formatter(NullFormatter())
