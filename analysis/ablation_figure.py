"""The figure of a sweep over one axis: FID and IS against the axis, with the paper's curve."""

import textwrap
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from analysis.figures import draw_means, metric_figure, scale
from analysis.notation import figure_symbol, figure_value
from analysis.paper import PaperAblation

# Okabe & Ito's palette, distinguishable with colour-vision deficiencies and in grey print.
OURS, OURS_NULL, PAPER = "#0072B2", "#56B4E9", "#D55E00"
NAME_WIDTH = 14  # characters per line of a value's tick label
OURS_LABEL, OURS_NULL_LABEL = "ours", "ours, no class label"


def save_ablation_figure(
    path: Path, summary: pd.DataFrame, axis: str, paper: PaperAblation | None, caption: str
) -> None:
    """Saves a figure with two panels, FID and IS against one axis; `caption` states the evaluation conditions."""
    with metric_figure(path, figure_symbol(axis, [axis]), caption) as (figure, panels):
        for metric, panel in panels.items():
            draw(panel, summary.set_index(axis), metric, paper)
        handles = dict(zip(*reversed(panels["fid"].get_legend_handles_labels()), strict=True))
        order = [label for label in (OURS_LABEL, OURS_NULL_LABEL) if label in handles]
        order += [label for label in handles if label not in order]
        figure.legend(
            [handles[label] for label in order], order, loc="outside upper center", ncols=len(order), fontsize=8
        )


def draw(panel: Axes, summary: pd.DataFrame, metric: str, paper: PaperAblation | None) -> None:
    """Draws our means with and without class labels, with error bars if there are several seeds; the paper's dashed.

    `summary` is indexed by the axis' values. If they are not all numbers, they are spaced evenly and not connected.
    """
    shown: list[float] = []
    names = [textwrap.fill(figure_value(value), NAME_WIDTH) for value in summary.index]
    lines: dict[str, Any] = {}
    if not (numbers := pd.api.types.is_numeric_dtype(summary.index)):
        summary, lines = summary.set_axis(range(len(summary))), {"linestyle": "none"}
    for name, colour, marker, label in (
        (metric, OURS, "o", OURS_LABEL),
        (f"{metric}_null", OURS_NULL, "s", OURS_NULL_LABEL),
    ):
        draw_means(panel, summary[name], summary[f"{name}_ci"], label, {"color": colour, "marker": marker, **lines})
        shown += summary[name].dropna().tolist()
    if paper and numbers:
        style: dict[str, Any] = {"color": PAPER, "marker": "D", "markersize": 4, "linestyle": "--"}
        theirs = [float(text) for text in paper.printed[metric]]
        panel.plot(paper.values, theirs, label=f"paper ({paper.setting})", **style)
        shown += theirs
    scale(panel, summary.index.tolist(), shown)
    if not numbers:
        panel.set_xticks(range(len(names)), names, fontsize=7)
        panel.margins(x=0.15)
