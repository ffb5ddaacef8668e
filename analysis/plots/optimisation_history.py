"""A search's course: each trial's value, and the best so far."""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from analysis.plots.broken_axis import panels
from analysis.plots.style import (
    COLUMN,
    DIVERGED,
    FAINT,
    GREY,
    OURS,
    PAPER,
    SMALL,
    house_style,
    metric_label,
    new_figure,
)
from sweeps.spec.metric import better

HEIGHT = 2.3  # inches
CONFIRMED = PAPER  # its colour stands out from ours


@house_style()
def optimisation_history(trials: pd.DataFrame, metric: str, confirmed: pd.DataFrame | None = None) -> Figure:
    """Draws the value of each trial, the best feasible one so far, and what fresh seeds gave for the confirmed ones.

    Open points break a constraint; a cross at the worse edge marks a trial without a value (it diverged, or early
    stopping ended it). The y axis is broken where one value would flatten the others (`broken_axis`).

    Args:
        trials: a row per configuration: `trial`, the metric (a mean over seeds) and `broken` ("" if all constraints
            hold).
        confirmed: a row per confirmed configuration: `trial`, the metric and METRIC_ci.
    """
    trials = trials.sort_values("trial")
    valued = trials.dropna(subset=[metric])
    feasible = valued[valued["broken"] == ""]
    best = feasible[metric].cummin() if better(metric) == "min" else feasible[metric].cummax()
    again = confirmed if confirmed is not None else pd.DataFrame(columns=["trial", metric, f"{metric}_ci"], dtype=float)
    figure = new_figure(COLUMN, HEIGHT)
    widths = again[f"{metric}_ci"].fillna(0)
    ends = list(zip(again[metric] - widths, again[metric] + widths, strict=True))
    ends += [(value, value) for value in valued[metric]]
    parts, broken = panels(figure, figure.add_gridspec(1, 1)[0], ends, floor=0)
    for part in parts:
        outside = valued[valued["broken"] != ""]
        part.plot(outside["trial"], outside[metric], "o", color=GREY, mfc="white", label="breaks a constraint")
        part.plot(feasible["trial"], feasible[metric], "o", color=OURS, alpha=FAINT, mew=0, label="trial")
        part.step(feasible["trial"], best, where="post", color=OURS, label="best so far")
        if len(again):
            style: dict[str, Any] = {"linestyle": "none", "marker": "D", "color": CONFIRMED, "label": "fresh seeds"}
            part.errorbar(again["trial"], again[metric], yerr=again[f"{metric}_ci"], **style)
    panel, edge = (parts[-1], 1.0) if better(metric) == "min" else (parts[0], 0.0)
    missing = trials[trials[metric].isna()]["trial"]
    panel.plot(
        missing,
        [edge] * len(missing),
        "x",
        color=DIVERGED,
        transform=panel.get_xaxis_transform(),
        clip_on=False,
        markersize=5,
        mew=1.2,
        label="no value",
    )
    parts[0].set_xlabel("trial")
    larger = parts[0] if broken is None or broken.high_share < 0.5 else parts[-1]
    larger.set_ylabel(metric_label(metric))
    handles, labels = panel.get_legend_handles_labels()
    used = {"trial", "best so far"} | ({"no value"} if len(missing) else set())
    used |= {"breaks a constraint"} if len(feasible) < len(valued) else set()
    used |= {"fresh seeds"} if len(again) else set()
    chosen = {label: handle for handle, label in zip(handles, labels, strict=True) if label in used}
    figure.legend(chosen.values(), chosen.keys(), loc="outside upper left", ncols=2, fontsize=SMALL, columnspacing=1)
    return figure
