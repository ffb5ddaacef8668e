"""Frames of runs for the tests of plots, and what can be read off a figure."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from analysis.plots.style import renderer_of
from analysis.results import METRICS

ALPHA = "scoring.alpha"
End = float | str  # a run's FID, or how else it ended

# As three seeds of digits gave it, rounded.
COLLAPSE: dict[object, list[End]] = {
    1.0: [16.5, 18.5, 18.5],
    1.25: [20.0, 20.5, 20.9],
    1.5: [21.4, 23.3, 26.2],
    1.75: [27.0, 28.0, 28.2],
    2.0: [83.2, 86.4, 87.4],
}


def runs(fid: Mapping[object, Sequence[End]], axis: str = ALPHA) -> pd.DataFrame:
    """A row per run: value of the axis -> FID by seed. IS is 10 - FID / 100; without label, FID is 5 times as high."""
    rows = []
    for value, ends in fid.items():
        for seed, end in enumerate(ends):
            finished = not isinstance(end, str)
            metrics: dict[str, float] = dict.fromkeys(METRICS, math.nan)
            if not isinstance(end, str):
                metrics |= dict.fromkeys(METRICS, 0.5) | {"fid": end, "is": 10 - end / 100, "fid_null": 5 * end}
            point = dict(zip(axis.split(" "), value if isinstance(value, tuple) else (value,), strict=True))
            outcome = "finished" if finished else end
            diverged_at = 7.0 if end == "diverged" else math.nan
            rows.append({**point, "seed": seed, "outcome": outcome, "diverged_at": diverged_at, **metrics})
    return pd.DataFrame(rows)


def means_in(panel: Axes) -> tuple[list[float], list[float]]:
    """Where the means of a panel are drawn."""
    line = panel.containers[0].lines[0]  # type: ignore[attr-defined]
    return list(line.get_xdata(orig=False)), list(line.get_ydata(orig=False))


def texts(figure: Figure) -> list[Text]:
    """The texts that are seen; tick labels only of ticks within the axis."""
    found = [text for text in (*figure.texts, figure._suptitle, figure._supxlabel) if text]  # type: ignore[attr-defined]
    for panel in figure.axes:
        found += [*panel.texts, panel.title, panel._left_title, panel.xaxis.label, panel.yaxis.label]  # type: ignore[attr-defined]
        found += tick_labels(panel)
    for legend in figure.legends:
        found += [*legend.get_texts(), legend.get_title()]
    once = {id(text): text for text in found}.values()
    return [text for text in once if text.get_visible() and text.get_text().strip()]


def tick_labels(panel: Axes) -> Iterator[Text]:
    for axis in (panel.xaxis, panel.yaxis):
        low, high = sorted(axis.get_view_interval())
        for tick in axis.get_major_ticks():
            if low <= tick.get_loc() <= high and axis.get_visible():  # type: ignore[attr-defined]
                yield tick.label1


def overlapping(figure: Figure) -> list[tuple[str, str]]:
    """The pairs of texts that overlap, and `OUTSIDE` with each that leaves the figure."""
    figure.draw_without_rendering()
    renderer = renderer_of(figure)
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in texts(figure)]
    width, height = figure.get_size_inches() * figure.dpi
    outside = [
        (words, "OUTSIDE")
        for words, box in boxes
        if box.x0 < -0.5 or box.y0 < -0.5 or box.x1 > width + 0.5 or box.y1 > height + 0.5
    ]
    pairs = combinations(boxes, 2)
    return outside + [(one, other) for (one, box), (other, another) in pairs if box.padded(-0.5).overlaps(another)]
