"""The plots of a search's report and their captions."""

from collections.abc import Iterator

import optuna
import pandas as pd

from analysis.plots.importances import importance_table, importances
from analysis.plots.optimisation_history import optimisation_history
from analysis.plots.parallel_coordinates import GOOD, parallel_coordinates
from analysis.plots.pareto_front import pareto_front
from analysis.plots.saving import Plot
from analysis.plots.style import metric_name
from analysis.results import SweepResults
from analysis.statistics import summarise

LUCK = "Diamonds: the confirmed configurations with fresh seeds (95% intervals); the best of a search is partly luck."


def search_plots(results: SweepResults, ranked: pd.DataFrame, study: "optuna.Study | None") -> Iterator[Plot]:
    """Yields the plots of a search; `ranked` comes from `analysis.search`."""
    objectives = results.objectives
    confirmed = confirmed_means(results)
    luck = f" {LUCK}" if len(confirmed) else ""
    for objective in objectives:
        yield Plot(
            "history" if len(objectives) == 1 else f"history-{objective}",
            optimisation_history(ranked, objective, confirmed),
            f"{metric_name(objective)} of each configuration by its first trial, and the best so far.{luck}",
        )
    if len(objectives) == 2:
        yield Plot(
            "pareto",
            pareto_front(ranked, objectives, confirmed),
            f"Configurations by both objectives; none beats those on the front in both.{luck}",
        )
    if study is not None and len(table := importance_table(study, objectives)):
        yield Plot(
            "importances",
            importances(table, results.axes),
            "Share of the variance over the trials with a value that each parameter explains, by itself and with "
            "others (fANOVA of a random forest). Trials that diverged or were stopped are left out, and so are "
            "parameters that some trials lack.",
        )
    if len(results.axes) > 1:
        yield Plot(
            "parallel",
            parallel_coordinates(ranked, results.axes, results.objective),
            f"One line per configuration with a value: the best one thick, the next {GOOD - 1} in colour.",
        )


def confirmed_means(results: SweepResults) -> pd.DataFrame:
    """Returns a row per confirmed configuration: `trial`, each objective's mean over fresh seeds, its interval."""
    columns = ["trial", *(name for each in results.objectives for name in (each, f"{each}_ci"))]
    if results.confirmations.empty:
        return pd.DataFrame(columns=columns, dtype=float)
    found = summarise(results.confirmations, ["trial"], results.objectives)
    return found.dropna(subset=results.objectives)[columns]
