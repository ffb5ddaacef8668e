"""The ablation's figure: FID and IS against the axis, the paper's curve beside ours."""

import textwrap
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from analysis.notation import latex_symbol
from analysis.paper import PaperAblation
from ear.files import write_atomically

# Okabe & Ito's palette, told apart by readers with colour-vision deficiencies and in grey print.
OURS, OURS_NULL, PAPER = "#0072B2", "#56B4E9", "#D55E00"
OURS_LABEL, OURS_NULL_LABEL = "ours", "ours, no class label"
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


def save_ablation_figure(
    path: Path, summary: pd.DataFrame, axis: str, paper: PaperAblation | None, caption: str
) -> None:
    """Two panels, FID and IS against one axis; `caption` says what was measured with what."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 3.3), dpi=200, layout="constrained")
        panels = figure.subplots(1, 2)
        for panel, metric, heading in zip(
            panels, ("fid", "is"), ("FID (lower is better)", "Inception score (higher is better)"), strict=True
        ):
            draw(panel, summary, axis, metric, paper)
            panel.set_xlabel(latex_symbol(axis))
            panel.set_title(heading, loc="left", fontsize=9)
        handles = dict(zip(*reversed(panels[0].get_legend_handles_labels()), strict=True))
        order = [label for label in (OURS_LABEL, OURS_NULL_LABEL) if label in handles]
        order += [label for label in handles if label not in order]
        figure.legend(
            [handles[label] for label in order], order, loc="outside upper center", ncols=len(order), fontsize=8
        )
        figure.supxlabel(wrap_caption(caption, CAPTION_WIDTH), fontsize=6, color="0.35")
        write_atomically(path, lambda temporary: figure.savefig(temporary, format="png"))


def wrap_caption(caption: str, width: int) -> str:
    """Lines of at most `width` characters where its clauses allow, broken after a semicolon only."""
    clauses = (clause.replace(" ", NO_BREAK_SPACE) for clause in caption.split("; "))
    return textwrap.fill("; ".join(clauses), width, break_long_words=False, break_on_hyphens=False)


def draw(panel: Axes, summary: pd.DataFrame, axis: str, metric: str, paper: PaperAblation | None) -> None:
    """Ours with and without labels, error bars where there are seeds, the paper's dashed."""
    shown: list[float] = []
    for name, colour, marker, label in (
        (metric, OURS, "o", OURS_LABEL),
        (f"{metric}_null", OURS_NULL, "s", OURS_NULL_LABEL),
    ):
        values = summary[name].astype(float)
        intervals = summary[f"{name}_ci"].astype(float).fillna(0)
        style: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 4, "capsize": 2, "label": label}
        panel.errorbar(summary[axis], values, yerr=intervals, **style)
        shown += values.dropna().tolist()
    if paper:
        style = {"color": PAPER, "marker": "D", "markersize": 4, "linestyle": "--"}
        theirs = [float(text) for text in paper.printed[metric]]
        panel.plot(paper.values, theirs, label=f"paper ({paper.setting})", **style)
        shown += theirs
    panel.set_xticks(sorted(set(summary[axis])))
    if min(shown) > 0 and max(shown) > LOG_FROM * min(shown):
        panel.set_yscale("log")
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        panel.yaxis.set_minor_formatter(NullFormatter())
