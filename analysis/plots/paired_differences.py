"""Differences of configurations to a reference, paired by seed."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.comparison import by_seed, differences, holm
from analysis.notation import figure_value
from analysis.plots.broken_axis import panels
from analysis.plots.style import (
    CHARACTER,
    COLUMN,
    FAINT,
    FULL,
    GREY,
    OURS,
    SMALL,
    configuration_name,
    house_style,
    in_clauses,
    metric_name,
    new_figure,
)
from analysis.statistics import p_value, summarise
from sweeps.spec.confidence import half_width
from sweeps.spec.metric import better

ROW, REST = 0.24, 0.8  # inches: of a configuration; of the title and the x axis
LABELS = 0.3  # most of the figure's width that the configurations' names take
ASIDE = 0.22  # rows: the seeds below their mean


def difference_table(
    frame: pd.DataFrame, axes: Sequence[str], metric: str, reference: int
) -> tuple[pd.DataFrame, list[list[float]]]:
    """Returns a row for each other configuration, and each one's differences by seed.

    The columns are the axes, `difference` (the mean over the seeds that both finished), `half_width` (of its 95% t
    interval, NaN for one seed) and `significant` (by Holm's correction over all rows).

    Args:
        reference: the row of `summarise` that the others are compared with.
    """
    listed = list(axes)
    summary, values = summarise(frame, listed, [metric]), by_seed(frame, listed, metric)
    rows, paired = [], []
    for _, row in summary.astype(object).iterrows():
        found = differences(values, row, summary.loc[reference])
        if row.name != reference and found:
            width = half_width(found)
            p = p_value(found)
            rows.append(
                {
                    **{axis: row[axis] for axis in listed},
                    "difference": float(np.mean(found)),
                    "half_width": np.nan if width is None else width,
                    "p": np.nan if p is None else p,
                }
            )
            paired.append(found)
    table = pd.DataFrame(rows, columns=[*listed, "difference", "half_width", "p"])
    tested = table["p"].dropna()
    significant = dict(zip(tested.index, holm(tested.tolist()), strict=True))
    table["significant"] = [significant.get(index, False) for index in table.index]
    return table, paired


@house_style()
def paired_differences(
    frame: pd.DataFrame, axes: Sequence[str], metric: str = "fid", reference: int = 0, *, width: float = COLUMN
) -> Figure:
    """Draws the difference of each configuration to the reference, with its paired 95% interval and the seeds.

    Configurations of a sweep share their seeds, so much of a seed's noise cancels in differences: two intervals of
    means may overlap though the difference is certain. Filled points differ significantly from 0 (Holm, 5% for all
    together); open ones do not. The axis is broken where one difference would flatten the others (`broken_axis`).

    Args:
        frame: a row per run: the axes, `seed`, `outcome`, `diverged_at` and the metric.
        reference: the row of `summarise` that the others are compared with.
    """
    table, paired = difference_table(frame, axes, metric, reference)
    base = summarise(frame, list(axes), [metric]).astype(object).loc[reference]
    # The title names the parameters, in the order of their values here.
    names = [", ".join(figure_value(row[axis]) for axis in axes) for row in table.to_dict("records")]
    if max(map(len, names), default=0) * CHARACTER > LABELS * width:
        width = FULL
        names = [in_clauses(name, LABELS * width) for name in names]
    figure = new_figure(width, ROW * max(2, len(table)) + REST)
    widths = table["half_width"].fillna(0)
    ends = [
        (min(mean - width, *found), max(mean + width, *found))
        for mean, width, found in zip(table["difference"], widths, paired, strict=True)
    ]
    parts, _ = panels(figure, figure.add_gridspec(1, 1)[0], [(0.0, 0.0), *ends], "x")
    rows = np.arange(len(table))
    for part in parts:
        part.axvline(0, color=GREY, linewidth=0.8)
        for row, found in zip(rows, paired, strict=True):
            if len(found) > 1:
                part.plot(found, [row + ASIDE] * len(found), ".", color=OURS, alpha=FAINT, markersize=5, mew=0)
        for filled in (True, False):
            some = table[table["significant"] == filled]
            part.errorbar(
                some["difference"],
                rows[some.index],
                xerr=some["half_width"],
                linestyle="none",
                marker="o",
                color=OURS,
                markerfacecolor=OURS if filled else "white",
                label="differs" if filled else "can't be told apart",
            )
        part.set_ylim(len(table) - 0.4, -0.6)
        part.grid(axis="y", visible=False)
    parts[0].set_yticks(rows, names)
    direction = "lower" if better(metric) == "min" else "higher"
    figure.supxlabel(f"difference in {metric_name(metric)} ({direction} is better)", fontsize=SMALL)
    title = f"{metric_name(metric)} minus that of {configuration_name(base, axes)}"
    figure.suptitle(in_clauses(title, width - 0.2), fontsize=SMALL, x=0.02, ha="left")
    return figure
