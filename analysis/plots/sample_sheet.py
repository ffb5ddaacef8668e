"""Sample sheets: the same noise and the same order of classes for each configuration, real images below."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from analysis.notation import figure_symbol, figure_value
from analysis.plots.sample_images import Images, SampleImages
from analysis.plots.style import (
    FULL,
    LINE_HEIGHT,
    NORMAL,
    SMALL,
    configuration_name,
    house_style,
    in_clauses,
    metric_name,
    new_figure,
)
from sweeps.spec.metric import written

MOST_ROWS = 20  # of more configurations, only the best are shown
TWICE_UP_TO = 8  # rows: with so few, each shows two images of a class
LABELS = 1.3  # inches: the names beside the rows
UNLABELLED_SHOWN = 3  # images in a row
CLASS_COLUMNS = 5  # of the classes in a cell of two axes
MOST_COLUMNS = 6  # cells beside one another; narrower tiles are no longer recognised
EDGE = 0.04  # inches: around the page
SPACE = 0.07  # inches: between blocks
GAP = 0.12  # between tiles, as a share of a tile


class Page:
    """A figure that is filled from the top, in inches."""

    def __init__(self, height: float) -> None:
        self.height = height
        self.figure = new_figure(FULL, height, None)

    def picture(self, tiles: Images, left: float, top: float, width: float) -> Axes:
        """Shows tiles in a block of this width whose upper left corner is at (left, top)."""
        pixels = mosaic(tiles)
        height = width * pixels.shape[0] / pixels.shape[1]
        panel = self.figure.add_axes(
            (left / FULL, 1 - (top + height) / self.height, width / FULL, height / self.height)
        )
        panel.imshow(pixels, interpolation="nearest", aspect="auto")
        panel.set_axis_off()
        return panel

    def text(self, words: str, left: float, top: float, size: int = SMALL, **how: Any) -> None:
        """Writes words below the point (left, top), or centred on it."""
        self.figure.text(left / FULL, 1 - top / self.height, words, fontsize=size, **{"va": "top", **how})


def mosaic(tiles: Images) -> NDArray[np.uint8]:
    """Returns tiles [rows, columns, H, W, RGB] as one picture with white gaps; small ones are enlarged for them."""
    rows, columns, height, width = tiles.shape[:4]
    scale = -(-32 // width)
    large = tiles.repeat(scale, 2).repeat(scale, 3)
    height, width = height * scale, width * scale
    gap = max(1, round(GAP * width))
    picture = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for row in range(rows):
        for column in range(columns):
            y, x = row * (height + gap), column * (width + gap)
            picture[y : y + height, x : x + width] = large[row, column]
    return picture


def block_width(columns: int, tile: float) -> float:
    """Returns the width of so many tiles with their gaps."""
    return columns * tile * (1 + GAP) - GAP * tile


@house_style()
def sample_list(
    summary: pd.DataFrame,
    axes: Sequence[str],
    metric: str,
    pictures: Mapping[int, SampleImages],
    real: Images | None = None,
    drawn: str = "",
) -> Figure:
    """Draws a block per configuration: a column per class, on the right samples without a label; real images last.

    Args:
        summary: a row per configuration: the axes, the metric and METRIC_ci; drawn in its order.
        pictures: each configuration's samples, by the row's index; rows without are left out.
        real: a row per class.
        drawn: how the images were drawn, if not as the metric was measured.
    """
    shown = summary[summary.index.isin(pictures)].head(MOST_ROWS)
    lines = 2 if len(shown) <= TWICE_UP_TO else 1
    classes = next(iter(pictures.values())).labelled.shape[0]
    tile = (FULL - EDGE - LABELS - SPACE) / ((classes + UNLABELLED_SHOWN) * (1 + GAP))
    left, right = LABELS, LABELS + block_width(classes, tile) + 2 * SPACE
    block = block_width(lines, tile) + SPACE
    top = EDGE + LINE_HEIGHT + SPACE
    page = Page(top + block * (len(shown) + (real is not None)))
    page.text(", ".join(filter(None, ("one column per class", drawn))), left, EDGE)
    page.text("no label", right, EDGE)
    for index, row in shown.iterrows():
        found = pictures[index]
        name = in_clauses(configuration_name(row, axes), LABELS)
        page.text(f"{name}\n{value_of(row, metric)}", EDGE, top)
        page.picture(found.labelled[:, :lines].swapaxes(0, 1), left, top, block_width(classes, tile))
        spare = found.unlabelled[0, : lines * UNLABELLED_SHOWN]
        page.picture(
            spare.reshape(lines, UNLABELLED_SHOWN, *spare.shape[1:]), right, top, block_width(UNLABELLED_SHOWN, tile)
        )
        top += block
    if real is not None:
        page.text("real images", EDGE, top)
        page.picture(real[:, :lines].swapaxes(0, 1), left, top, block_width(classes, tile))
    return page.figure


def value_of(row: pd.Series, metric: str) -> str:
    """Returns a metric's mean and interval: `FID 17.82 ± 0.51`."""
    interval = row[f"{metric}_ci"]
    text = f"{metric_name(metric)} {written(metric, row[metric])}"
    return text if pd.isna(interval) else f"{text} ± {written(metric, interval)}"


def fits_as_grid(summary: pd.DataFrame, axes: Sequence[str]) -> bool:
    """Whether a sheet can be laid out as the grid of its two axes."""
    if len(axes) != 2:
        return False
    rows, columns = (summary[axis].nunique() for axis in grid_roles(summary, axes))
    return bool(columns <= MOST_COLUMNS and rows * columns <= 2 * MOST_ROWS)


def grid_roles(summary: pd.DataFrame, axes: Sequence[str]) -> tuple[str, str]:
    """Returns the axis with a row per value, and the one with a column per value, which has no more values."""
    first, second = axes
    return (second, first) if summary[second].nunique() > summary[first].nunique() else (first, second)


@house_style()
def sample_grid(
    summary: pd.DataFrame,
    axes: Sequence[str],
    metric: str,
    pictures: Mapping[int, SampleImages],
    real: Images | None = None,
    drawn: str = "",
) -> Figure:
    """Draws the samples of two axes as their grid: one image per class in each cell, real images in the last row.

    The arguments are those of `sample_list`.
    """
    down, across = grid_roles(summary, axes)
    rows, columns = (sorted(summary[axis].unique()) for axis in (down, across))
    classes = next(iter(pictures.values())).labelled.shape[0]
    lines = -(-classes // CLASS_COLUMNS)
    width = (FULL - EDGE - LABELS / 2 - 2 * SPACE * (len(columns) - 1)) / len(columns)
    tile = width / (CLASS_COLUMNS * (1 + GAP) - GAP)
    block = LINE_HEIGHT + block_width(lines, tile) + 2 * SPACE
    top = EDGE + 2 * LINE_HEIGHT + 2 * SPACE
    page = Page(top + block * len(rows) + (block - LINE_HEIGHT if real is not None else 0))
    lefts = [LABELS / 2 + at * (width + 2 * SPACE) for at in range(len(columns))]
    page.text(figure_symbol(across, axes), lefts[0], EDGE, NORMAL)
    page.text(drawn, FULL - EDGE, EDGE, ha="right")
    page.text(figure_symbol(down, axes), EDGE, EDGE + LINE_HEIGHT, NORMAL)
    for left, value in zip(lefts, columns, strict=True):
        page.text(figure_value(value), left + width / 2, EDGE + LINE_HEIGHT, NORMAL, ha="center")
    at = {(row[down], row[across]): (index, row) for index, row in summary.iterrows()}
    for value in rows:
        page.text(figure_value(value), EDGE, top + LINE_HEIGHT + tile / 2, NORMAL)
        for left, other in zip(lefts, columns, strict=True):
            index, row = at.get((value, other), (None, None))
            if row is not None and index in pictures:
                page.text(f"{metric_name(metric)} {written(metric, row[metric])}", left, top)
                page.picture(in_lines(pictures[index].labelled[:, 0]), left, top + LINE_HEIGHT, width)
        top += block
    if real is not None:
        page.text("real", EDGE, top + tile / 2, NORMAL)
        for number, left in enumerate(lefts):
            page.picture(in_lines(real[:, number % real.shape[1]]), left, top, width)
    return page.figure


def in_lines(images: NDArray[np.uint8]) -> Images:
    """Returns images [N, H, W, RGB] in lines of `CLASS_COLUMNS`, the last one filled up with white."""
    missing = -len(images) % CLASS_COLUMNS
    white = np.full((missing, *images.shape[1:]), 255, np.uint8)
    return np.concatenate([images, white]).reshape(-1, CLASS_COLUMNS, *images.shape[1:])
