"""How much each parameter of a search matters to each objective."""

from collections.abc import Sequence

import numpy as np
import optuna
import pandas as pd
from matplotlib.figure import Figure

from analysis.notation import figure_symbol
from analysis.plots.style import (
    BLUE,
    COLUMN,
    GREEN,
    ORANGE,
    SMALL,
    house_style,
    in_clauses,
    metric_name,
    new_figure,
)

ROW, REST = 0.3, 0.65  # inches: of a parameter; of the x axis and the legend
SEED = 0  # of the forest, so that a report is the same each time
LABELS = 1.3  # inches
COLOURS = (BLUE, ORANGE, GREEN)


def importance_table(study: optuna.Study, objectives: Sequence[str]) -> pd.DataFrame:
    """Returns a row per parameter and objective: `parameter`, `objective`, `importance` (they add up to 1).

    The importance is the share of the objective's variance over the trials with a value that the parameter explains by
    itself and with others, by a functional ANOVA of a random forest (Hutter, Hoos & Leyton-Brown 2014). Parameters that
    are not in every trial are left out. Empty if too few trials have a value.
    """
    rows = []
    for number, objective in enumerate(objectives):
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=SEED)

        def value(trial: optuna.trial.FrozenTrial, number: int = number) -> float:
            return float(trial.values[number])

        try:
            found = optuna.importance.get_param_importances(study, evaluator=evaluator, target=value)
        except (ValueError, RuntimeError):  # fewer than two trials with a value, or all alike
            continue
        rows += [{"parameter": name, "objective": objective, "importance": each} for name, each in found.items()]
    return pd.DataFrame(rows, columns=["parameter", "objective", "importance"])


@house_style()
def importances(table: pd.DataFrame, axes: Sequence[str]) -> Figure:
    """Draws the importances as bars, the parameter that matters most to the first objective at the top.

    Args:
        table: a row per parameter and objective: `parameter`, `objective`, `importance`.
        axes: all of the search's parameters, for their short names.
    """
    objectives = list(dict.fromkeys(table["objective"]))
    cells = table.pivot(index="parameter", columns="objective", values="importance")[objectives]
    cells = cells.sort_values(objectives[0], ascending=False)
    figure = new_figure(COLUMN, ROW * len(cells) + REST)
    panel = figure.subplots()
    rows, height = np.arange(len(cells)), 0.75 / len(objectives)
    for number, objective in enumerate(objectives):
        at = rows + (number - (len(objectives) - 1) / 2) * height
        label = metric_name(objective)
        bars = panel.barh(at, cells[objective], height, color=COLOURS[number % len(COLOURS)], label=label)
        panel.bar_label(bars, [f"{share:.2f}" for share in cells[objective]], padding=2, fontsize=SMALL)
    panel.set_yticks(rows, [in_clauses(figure_symbol(parameter, axes), LABELS) for parameter in cells.index])
    panel.invert_yaxis()
    panel.set_xlim(0, 1.15 * float(cells.to_numpy().max()))
    panel.grid(axis="y", visible=False)
    panel.set_xlabel("share of the variance explained" + ("" if len(objectives) > 1 else f" ({label})"), fontsize=SMALL)
    if len(objectives) > 1:
        figure.legend(loc="outside upper left", ncols=len(objectives), fontsize=SMALL)
    return figure
