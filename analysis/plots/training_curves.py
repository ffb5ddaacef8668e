"""Training curves: loss and gradient norm against the step, a line for each run."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.plots.style import (
    DIVERGED,
    FULL,
    SMALL,
    configuration_name,
    house_style,
    log_ticks,
    new_figure,
)

HEIGHT = 2.3  # inches
SHOWN = {"loss": "training loss", "gradient_norm": "gradient norm, before clipping"}
PALETTE, PALETTE_END = "viridis", 0.85  # from dark to light in the table's order
MOST_NAMED = 8  # configurations in the legend
LOG_FROM = 10.0  # largest / smallest value above which a y axis is logarithmic
HISTORY = "history/"  # prefix of the curve's columns in a checkpoint
COLUMNS = ("step", *SHOWN)


def read_curve(checkpoint: Path) -> pd.DataFrame:
    """Returns the training curve that a checkpoint holds: `step`, `loss`, `gradient_norm`; empty if it has none.

    Read without torch, whose import takes seconds.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(checkpoint, framework="numpy") as opened:
            names = set(opened.keys())
            if not {f"{HISTORY}{column}" for column in COLUMNS} <= names:
                return pd.DataFrame(columns=COLUMNS, dtype=float)
            return pd.DataFrame({column: opened.get_tensor(f"{HISTORY}{column}") for column in COLUMNS})
    except (OSError, SafetensorError):  # no longer in the store
        return pd.DataFrame(columns=COLUMNS, dtype=float)


@house_style()
def training_curves(curves: pd.DataFrame, axes: Sequence[str]) -> Figure:
    """Draws loss and gradient norm; runs of one configuration have one colour, and a cross marks a divergence.

    Losses of different alpha, train temperatures or rules do not compare: only their course does.

    Args:
        axes: the parameters that the trainings differ in.
        curves: a row per record: the axes, `seed`, `step`, `loss`, `gradient_norm` and `diverged_at` (NaN if the run
            did not diverge).
    """
    figure = new_figure(FULL, HEIGHT)
    panels = figure.subplots(1, len(SHOWN))
    groups = list(curves.groupby(list(axes), sort=True, dropna=False)) if axes else [((), curves)]
    colours = matplotlib.colormaps[PALETTE](np.linspace(0, PALETTE_END, len(groups)))
    for panel, (column, title) in zip(panels, SHOWN.items(), strict=True):
        for colour, (_, group) in zip(colours, groups, strict=True):
            label = configuration_name(group.astype(object).iloc[0], axes)
            for number, (_, run) in enumerate(group.groupby("seed", sort=True)):
                run = run.sort_values("step")
                finite = run[np.isfinite(run[column])]
                panel.plot(finite["step"], finite[column], color=colour, linewidth=0.8, label=None if number else label)
                if run["diverged_at"].notna().any():
                    end = run["diverged_at"].iloc[0]
                    y = finite[column].iloc[-1] if len(finite) else 1.0
                    panel.plot(end, y, "x", color=DIVERGED, markersize=5, mew=1.2, zorder=3)
                    panel.annotate(
                        f"diverged at step {end:.0f}",
                        (end, y),
                        xytext=(4, 3),
                        textcoords="offset points",
                        fontsize=SMALL,
                    )
        values = curves[column][np.isfinite(curves[column]) & (curves[column] > 0)]
        if len(values) and values.max() > LOG_FROM * values.min() and not (curves[column] <= 0).any():
            log_ticks(panel)
        panel.set_title(title)
        panel.set_xlabel("step")
    if 1 < len(groups) <= MOST_NAMED:
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right upper", fontsize=SMALL)
    return figure
