"""Quality against the time to sample an image, with the paper's Figure 2 beside."""

from collections.abc import Sequence
from importlib import resources
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from matplotlib.transforms import Bbox

from analysis.plots.broken_axis import panels
from analysis.plots.style import (
    FAINT,
    FULL,
    LOG_FROM,
    OURS,
    PAPER,
    SMALL,
    configuration_name,
    house_style,
    metric_label,
    new_figure,
    renderer_of,
)
from analysis.statistics import summarise
from ear.config.yaml_text import parse_yaml
from sweeps.search.domination import front, outcome

HEIGHT = 2.3  # inches
SECONDS = "seconds_per_image"
MOST_NAMED = 5  # configurations on the front that are named
MILLI_BELOW = 0.1  # seconds
BEHIND = {"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 0.5}
ROOM = 0.25  # of the x axis' range, on each side, for the names


def paper_speed() -> dict[str, Any]:
    """Returns the paper's models with seconds an image and FID."""
    file = resources.files("analysis.plots").joinpath("paper_speed.yaml")
    found: dict[str, Any] = parse_yaml(file.read_text(encoding="utf-8"), file.name)
    return found


@house_style()
def speed_quality(frame: pd.DataFrame, axes: Sequence[str], metric: str = "fid") -> Figure:
    """Draws each configuration's FID (95% intervals) against its median time an image; the paper's models beside.

    The configurations that no other beats in both are connected; filled points. The panels have axes of their own,
    since neither the datasets nor the machines compare.

    Args:
        frame: a row per run: the axes, `seed`, `outcome`, `diverged_at`, the metric and `seconds_per_image`.
    """
    summary = summarise(frame, list(axes), [metric])
    summary[SECONDS] = frame.groupby(list(axes), sort=True, dropna=False)[SECONDS].median().to_numpy()
    shown = summary.dropna(subset=[metric, SECONDS])
    unit = "seconds"
    if shown[SECONDS].max() < MILLI_BELOW:
        unit, shown = "milliseconds", shown.assign(**{SECONDS: 1000 * shown[SECONDS]})
    figure = new_figure(FULL, HEIGHT)
    grid = figure.add_gridspec(1, 2, width_ratios=(1.3, 1))
    widths = shown[f"{metric}_ci"].fillna(0)
    ends = list(zip(shown[metric] - widths, shown[metric] + widths, strict=True))
    labels: list[Annotation] = []
    parts, broken = panels(figure, grid[0], ends, floor=0)
    best = shown.iloc[front([outcome(pair, [SECONDS, metric]) for pair in _pairs(shown, metric)])].sort_values(SECONDS)
    for part in parts:
        style: dict[str, Any] = {"linestyle": "none", "color": OURS}
        part.errorbar(
            shown[SECONDS], shown[metric], yerr=shown[f"{metric}_ci"], marker="o", mfc="white", alpha=FAINT, **style
        )
        part.errorbar(best[SECONDS], best[metric], yerr=best[f"{metric}_ci"], marker="o", **style)
        part.plot(best[SECONDS], best[metric], color=OURS, linewidth=0.8)
        time_axis(part, shown[SECONDS].tolist())
    named = best.astype(object).head(MOST_NAMED)  # as objects, so that integers stay integers
    for part in parts:
        within = named[named[metric].between(*part.get_ylim())]
        names = [configuration_name(row, axes) for _, row in within.iterrows()]
        labels += name_points(part, names, within[SECONDS].tolist(), within[metric].tolist())
    parts[0].set_xlabel(f"{unit} an image (sampling and measuring)", fontsize=SMALL)
    larger = parts[0] if broken is None or broken.high_share < 0.5 else parts[-1]
    larger.set_ylabel(metric_label(metric))
    parts[-1].set_title("ours", fontsize=SMALL)
    beside = figure.add_subplot(grid[1])
    labels += draw_paper(beside)
    spread(figure, labels)
    return figure


def _pairs(shown: pd.DataFrame, metric: str) -> list[tuple[float, float]]:
    return list(zip(shown[SECONDS], shown[metric], strict=True))


def draw_paper(panel: Axes) -> list[Annotation]:
    """Draws the paper's models; returns their names."""
    paper = paper_speed()
    models = pd.DataFrame(paper["models"])
    panel.plot(models["seconds"], models["fid"], "D", color=PAPER)
    time_axis(panel, models["seconds"].tolist())
    panel.set_ylim(models["fid"].min() - 0.2, models["fid"].max() + 0.2)
    panel.yaxis.set_major_locator(MaxNLocator(5))
    panel.set_xlabel("seconds an image", fontsize=SMALL)
    panel.set_title(f"paper: {paper['setting']}", fontsize=SMALL)
    return name_points(panel, models["name"].tolist(), models["seconds"].tolist(), models["fid"].tolist())


def time_axis(panel: Axes, times: Sequence[float]) -> None:
    """Makes the x axis logarithmic if the times span a wide range; leaves room for names."""
    low, high = min(times), max(times)
    if high < LOG_FROM * low:
        panel.set_xlim(low - ROOM / 2 * (high - low), high + ROOM * 2 * (high - low))
        panel.xaxis.set_major_locator(MaxNLocator(5))
        return
    room = (high / low) ** ROOM
    panel.set_xscale("log")
    panel.set_xlim(low / room, high * room**1.6)
    panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 30 * low else (1,)))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.xaxis.set_minor_formatter(NullFormatter())


def name_points(panel: Axes, names: Sequence[str], xs: Sequence[float], ys: Sequence[float]) -> list[Annotation]:
    """Writes a name to the right of each point."""
    style: dict[str, Any] = {"textcoords": "offset points", "fontsize": SMALL, "va": "center", "bbox": BEHIND}
    return [panel.annotate(name, (x, y), xytext=(6, 0), **style) for name, x, y in zip(names, xs, ys, strict=True)]


def spread(figure: Figure, labels: Sequence[Annotation]) -> None:
    """Moves names up until no two overlap, beginning with the lowest."""
    figure.draw_without_rendering()
    renderer = renderer_of(figure)
    placed: list[Bbox] = []
    for label in sorted(labels, key=lambda label: label.get_window_extent(renderer).y0):
        box = label.get_window_extent(renderer)
        moved = 0.0
        for other in placed:
            here = box.translated(0, moved)
            if here.overlaps(other):
                moved += other.y1 - here.y0 + 1
        x, y = label.xyann
        label.xyann = (x, y + moved * 72 / figure.dpi)
        placed.append(box.translated(0, moved))
