"""The house style of all figures: sizes, colours, names of metrics and values."""

import re
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import matplotlib.style
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from matplotlib.transforms import ScaledTranslation

from analysis.notation import figure_symbol, figure_value
from sweeps.spec.metric import better

COLUMN, FULL = 3.25, 6.75  # inches: the widths of a column and of a page in conference papers
SMALL, NORMAL = 8, 9  # points: tick labels, legends and notes; titles and axis labels
PAD = 2.5  # points: between an axis and its tick labels
LINE_HEIGHT = 0.14  # inches: a line of small text
CHARACTER = 0.068  # inches: an average character of small text

# Okabe & Ito's palette, distinguishable with colour-vision deficiencies and in grey print.
BLUE, SKY, VERMILION, ORANGE, GREEN, PURPLE = "#0072B2", "#56B4E9", "#D55E00", "#E69F00", "#009E73", "#CC79A7"
OURS, OURS_NULL, PAPER, DIVERGED = BLUE, SKY, VERMILION, "#000000"
GREY = "0.45"
FAINT = 0.4  # opacity of single seeds

LOG_FROM = 4.0  # largest / smallest value above which an axis of a metric is logarithmic
NAMES = {"fid": "FID", "is": "IS", "precision": "precision", "recall": "recall"}

FORMULA = re.compile(r"(?<!\\)\$.*?(?<!\\)\$")
FORMULA_STANDS_FOR = "\N{OBJECT REPLACEMENT CHARACTER}" * 4  # about as wide as a symbol with its index

STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that every machine draws the same
    "font.size": SMALL,
    "axes.titlesize": NORMAL,
    "axes.labelsize": NORMAL,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "errorbar.capsize": 2,
    "xtick.major.pad": PAD,
    "ytick.major.pad": PAD,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "figure.dpi": 100,
    "figure.constrained_layout.h_pad": 0.03,
    "figure.constrained_layout.w_pad": 0.03,
    "savefig.dpi": 200,
    "pdf.fonttype": 42,  # fonts that can be edited; many venues refuse Type 3
    "svg.hashsalt": "ear",
}


@contextmanager
def house_style() -> Iterator[None]:
    """Sets the house style, whatever the user's matplotlibrc says; also serves as a decorator."""
    with matplotlib.style.context(["default", STYLE]):
        yield


def new_figure(width: float, height: float, layout: Literal["constrained"] | None = "constrained") -> Figure:
    """Returns an empty figure, in inches; without a layout, everything stays where it is put."""
    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)  # whose renderer measures texts
    return figure


def metric_label(metric: str) -> str:
    """Returns a metric's name with the direction that is better: `FID ↓`, `IS ↑, no label`."""
    name = NAMES.get(metric.removesuffix("_null"), metric)
    return f"{name} {'↓' if better(metric) == 'min' else '↑'}{', no label' if metric.endswith('_null') else ''}"


def metric_name(metric: str) -> str:
    """Returns a metric's name for running text: `FID`, `FID without label`."""
    name = NAMES.get(metric.removesuffix("_null"), metric)
    return f"{name} without label" if metric.endswith("_null") else name


def configuration_name(row: Any, axes: Sequence[str]) -> str:
    """Returns a configuration's values: `α = 1.25`; with several axes `cfg 1.5, steps 8`."""
    if len(axes) == 1:
        return f"{figure_symbol(axes[0], axes)} = {figure_value(row[axes[0]])}"
    return ", ".join(f"{figure_symbol(axis, axes)} {figure_value(row[axis])}" for axis in axes)


def is_numeric(values: pd.Series | pd.Index) -> bool:
    """Whether all values are finite numbers (booleans do not count)."""
    kinds = pd.api.types
    if not kinds.is_numeric_dtype(values) or kinds.is_bool_dtype(values):
        return False
    return all(value not in (float("inf"), float("-inf")) and value == value for value in values)


def is_geometric(values: Sequence[float]) -> bool:
    """Whether positive values are spaced more evenly by their logarithms, so that a logarithmic axis serves better.

    So it is for 4, 8, 16, and for 0.1, 0.25, 0.5, 1; not for 1, 1.25, 1.5, 2, 3, which span less than a factor of 4.
    """
    import numpy as np

    ordered = np.unique(np.asarray(values, dtype=float))
    if len(ordered) < 3 or ordered[0] <= 0 or ordered[-1] < LOG_FROM * ordered[0]:
        return False
    steps, ratios = np.diff(ordered), np.diff(np.log(ordered))
    return bool(ratios.std() / ratios.mean() < steps.std() / steps.mean())


def log_ticks(panel: Axes) -> None:
    """Makes the y axis logarithmic, with plain numbers at the powers of ten and some of their multiples."""
    panel.set_yscale("log")
    low, high = panel.get_ylim()
    subs = (1, 2, 3, 5) if high < 10 * low else (1, 2, 5) if high < 100 * low else (1,)
    panel.yaxis.set_major_locator(LogLocator(subs=subs))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.yaxis.set_minor_formatter(NullFormatter())


def renderer_of(figure: Figure) -> Any:
    """Returns what measures a figure's texts."""
    canvas: Any = figure.canvas
    return canvas.get_renderer()


def align_left(columns: Sequence[Sequence[Axes]]) -> None:
    """Aligns the left edges of panels that stand above one another, by equal room for their tick labels.

    Needed for panels of nested grids, which constrained layout does not align.
    """
    figure: Any = columns[0][0].figure
    figure.draw_without_rendering()
    renderer = renderer_of(figure)
    for panels in columns:
        edges = [0.0]  # pixels that tick labels take
        for panel in panels:
            if (box := panel.yaxis.get_tightbbox(renderer)) is not None:
                edges.append(panel.get_window_extent(renderer).x0 - box.x0)
        for panel in panels:
            left = panel.transAxes + ScaledTranslation(-max(edges) / figure.dpi, 0, figure.dpi_scale_trans)
            panel.plot(0, 0.5, ",", alpha=0, transform=left, clip_on=False)  # takes room


def in_clauses(text: str, inches: float) -> str:
    """Wraps small text to a width, after commas where it can; formulas count as a few characters."""
    formulas = FORMULA.findall(text)
    plain = FORMULA.sub(FORMULA_STANDS_FOR, text)
    lines: list[str] = []
    for clause in plain.replace(", ", ",\n").split("\n"):
        if lines and len(f"{lines[-1]} {clause}") * CHARACTER <= inches:
            lines[-1] += f" {clause}"
        else:
            lines.append(clause)
    found = "\n".join(wrapped(line, inches) for line in lines)
    for formula in formulas:
        found = found.replace(FORMULA_STANDS_FOR, formula, 1)
    return found


def wrapped(text: str, inches: float) -> str:
    """Wraps small text to a width, between words."""
    return textwrap.fill(text, max(8, int(inches / CHARACTER)), break_long_words=False)


def thinned(names: Sequence[str], shares: Sequence[float], inches: float) -> list[str]:
    """Returns the tick labels without those that would touch the one before; the first and the last stay.

    Args:
        shares: where each label stands on the axis, 0 to 1 and ascending.
        inches: the axis' length.
    """
    kept = list(names)

    def touches(one: int, other: int) -> bool:
        needed = CHARACTER * ((len(names[one]) + len(names[other])) / 2 + 1)
        return abs(shares[other] - shares[one]) * inches < needed

    before, last = 0, len(names) - 1
    for each in range(1, len(names)):
        if each != last and (touches(before, each) or touches(each, last)):
            kept[each] = ""
        else:
            before = each
    return kept
