"""Breaks an axis where one value lies so far from the others that it would flatten them.

rule     the largest gap between neighbouring intervals is more than half of the range, and one of its sides has three
         values or more, whose differences the gap would flatten
scale    the same on both sides of the break, so that lengths can be compared
share    each side has a quarter of the axis or more
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.ticker import MaxNLocator

Interval = tuple[float, float]  # lower and upper end; equal for a single value
Direction = Literal["x", "y"]

BREAK_FROM = 0.5  # share of the range that the largest gap exceeds
FLATTENED = 3  # values on one side of the break, at least
SMALLEST_SHARE = 0.25  # of the axis, for one side of the break
MARGIN = 0.1  # of a side's range, at each of its ends
GAP = 0.03  # between the two sides, as a share of their mean length
MARK = 0.6  # slope of the marks at the break
TICKS = 6  # on the whole axis


@dataclass(frozen=True)
class Break:
    """The limits of the two sides of a broken axis, and the share of the upper one."""

    low: Interval
    high: Interval
    high_share: float


def find_break(intervals: Sequence[Interval], floor: float = -math.inf) -> Break | None:
    """Returns where an axis that shows these intervals, one for each value, is broken; None if it is not.

    The axis does not go below `floor`.
    """
    ordered = sorted(intervals)
    if len(ordered) <= FLATTENED:
        return None
    at, gap, low = 0, 0.0, ordered[0]
    reach = ordered[0][1]
    for number, interval in enumerate(ordered):
        if interval[0] - reach > gap:
            at, gap, low = number, interval[0] - reach, (ordered[0][0], reach)
        reach = max(reach, interval[1])
    if gap <= BREAK_FROM * (reach - ordered[0][0]) or max(at, len(ordered) - at) < FLATTENED:
        return None
    high = (ordered[at][0], reach)
    below, above = (1 + 2 * MARGIN) * (low[1] - low[0]), (1 + 2 * MARGIN) * (high[1] - high[0])
    if below + above == 0:  # equal values on each side
        below = above = gap / 4
    share = min(max(above / (below + above), SMALLEST_SHARE), 1 - SMALLEST_SHARE)
    unit = max(below / (1 - share), above / share)  # what the whole axis would span
    return Break(widened(low, unit * (1 - share), floor), widened(high, unit * share, floor), share)


def widened(interval: Interval, span: float, floor: float) -> Interval:
    """Returns an interval of length `span` with the same centre, moved up if it would go below the floor."""
    low = (interval[0] + interval[1] - span) / 2
    if low < floor <= interval[0]:
        low = floor
    return low, low + span


def panels(
    figure: Figure,
    spec: SubplotSpec,
    intervals: Sequence[Interval],
    direction: Direction = "y",
    floor: float = -math.inf,
) -> tuple[list[Axes], Break | None]:
    """Adds the panels for these intervals to a figure: one, or two with a broken axis, the lower side first.

    All that is drawn must be drawn in each of them.
    """
    found = find_break(intervals, floor)
    if found is None:
        return [figure.add_subplot(spec)], None
    shares = [1 - found.high_share, found.high_share]
    if direction == "y":
        inner = spec.subgridspec(2, 1, height_ratios=shares[::-1], hspace=GAP)
        high = figure.add_subplot(inner[0])
        low = figure.add_subplot(inner[1], sharex=high)
        high.spines["bottom"].set_visible(False)
        high.tick_params(axis="x", bottom=False, labelbottom=False)
        ends = ((low, (0, 1)), (high, (0, 0)))
        mark = [(-1.0, -MARK), (1.0, MARK)]
    else:
        inner = spec.subgridspec(1, 2, width_ratios=shares, wspace=GAP)
        low = figure.add_subplot(inner[0])
        high = figure.add_subplot(inner[1], sharey=low)
        high.spines["left"].set_visible(False)
        high.tick_params(axis="y", left=False, labelleft=False)
        ends = ((low, (1, 0)), (high, (0, 0)))
        mark = [(-MARK, -1.0), (MARK, 1.0)]
    for panel, limits, share in ((low, found.low, shares[0]), (high, found.high, shares[1])):
        (panel.set_ylim if direction == "y" else panel.set_xlim)(*limits)
        axis = panel.yaxis if direction == "y" else panel.xaxis
        within = {end for interval in intervals for end in interval if limits[0] <= end <= limits[1]}
        if len(within) == 1:  # a single value is named exactly
            axis.set_ticks(list(within), [f"{value:g}" for value in within])
        else:
            axis.set_major_locator(MaxNLocator(nbins=max(1, round(TICKS * share)), min_n_ticks=1))
    for panel, end in ends:
        (line,) = panel.plot(*end, marker=mark, markersize=7, color="black", mew=0.8, transform=panel.transAxes)
        line.set_clip_on(False)
        line.set_in_layout(False)
    return [low, high], found
