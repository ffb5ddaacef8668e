"""The trade-off between two objectives of a search, with what fresh seeds confirmed."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from analysis.plots.optimisation_history import CONFIRMED
from analysis.plots.style import (
    COLUMN,
    FAINT,
    GREY,
    OURS,
    SMALL,
    house_style,
    metric_label,
    new_figure,
)
from sweeps.spec.metric import better

HEIGHT = 2.8  # inches


@house_style()
def pareto_front(trials: pd.DataFrame, objectives: Sequence[str], confirmed: pd.DataFrame | None = None) -> Figure:
    """Draws the trials with a value by two objectives; those on the front are filled and joined by steps.

    The steps bound what the front dominates. A confirmed point is joined to the one of the search by a thin line: the
    search's is partly luck, and so too good.

    Args:
        trials: a row per configuration: `trial`, the objectives (means over seeds), `broken` ("" if all constraints
            hold) and `pareto_front`.
        confirmed: a row per confirmed configuration: `trial`, the objectives and OBJECTIVE_ci.
    """
    across, up = objectives
    shown = trials.dropna(subset=[across, up])
    figure = new_figure(COLUMN, HEIGHT)
    panel = figure.subplots()
    feasible = shown["broken"] == ""
    for some, label, style in (
        (shown[~feasible], "breaks a constraint", {"color": GREY, "mfc": "white"}),
        (shown[feasible & ~shown["pareto_front"]], "dominated", {"color": OURS, "alpha": FAINT, "mew": 0}),
        (shown[shown["pareto_front"]], "Pareto front", {"color": OURS}),
    ):
        if len(some):
            panel.plot(some[across], some[up], "o", label=label, zorder=3, **style)
    # A point is dominated by the front's last one that is as good across: steps to its side that is worse.
    front = shown[shown["pareto_front"]].sort_values(across, ascending=better(across) == "min")
    panel.step(front[across], front[up], where="post", color=OURS, linewidth=0.8)
    if confirmed is not None and len(confirmed):
        for row in confirmed.to_dict("records"):
            before = shown[shown["trial"] == row["trial"]]
            for _, searched in before.iterrows():
                panel.plot([searched[across], row[across]], [searched[up], row[up]], color=CONFIRMED, linewidth=0.6)
        panel.errorbar(
            confirmed[across],
            confirmed[up],
            xerr=confirmed[f"{across}_ci"],
            yerr=confirmed[f"{up}_ci"],
            linestyle="none",
            marker="D",
            color=CONFIRMED,
            elinewidth=0.8,
            label="fresh seeds",
        )
    panel.set_xlabel(metric_label(across))
    panel.set_ylabel(metric_label(up))
    figure.legend(loc="outside upper left", ncols=2, fontsize=SMALL, columnspacing=1)
    return figure
