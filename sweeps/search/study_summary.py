"""Reads a search from outside: the runs of its study, how they ended, and a description of its best."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from ear.errors import UserError
from sweeps.search.after_repair import STEERED, steered_words
from sweeps.search.best import pareto_front
from sweeps.search.confirmation import (
    CONFIRMATION,
    MOST_CONFIRMED,
    WINNER_AND_RUNNER_UP,
    Confirmed,
    confirmation_runs,
    read_confirmed,
)
from sweeps.search.study import ENDS, JOURNAL, open_journal
from sweeps.spec.configurations import Configurations
from sweeps.spec.metric import written
from sweeps.spec.naming import short_names, shown
from sweeps.spec.runs import PlannedRun
from sweeps.spec.schema import SweepConfig
from sweeps.spec.search_space import evaluation_only, random_points


def drawn_runs(sweep: SweepConfig, configurations: Configurations) -> list[PlannedRun]:
    """Returns the runs of a hypothetical search at random points, without early stopping; used for forecasts."""
    search = sweep.search
    assert search is not None
    free = evaluation_only(search, configurations)
    drawn = random_points(search, configurations, search.trials * (1 + search.evaluations))
    proposed = drawn[: search.trials]
    points = list(proposed)
    for number, other in enumerate(drawn[search.trials :]):
        point = proposed[number // search.evaluations]
        points.append({**point, **{name: value for name, value in other.items() if name in free and name in point}})
    with warnings.catch_warnings(action="ignore"):  # nobody asked for these points
        runs = [run for point in points for run in valid_runs(point, sweep.seeds, configurations)]
    if search.confirmation is not None:
        # The most that can be confirmed, since the size of the Pareto front is unknown.
        alone = len(sweep.objectives) == 1
        for point in proposed[:WINNER_AND_RUNNER_UP] if alone else points[:MOST_CONFIRMED]:
            runs += confirmation_runs(search.confirmation, point, sweep.seeds, configurations)
    return list({repr((run.parameters, run.seed)): run for run in runs}.values())


def valid_runs(point: Mapping[str, Any], seeds: Sequence[int], configurations: Configurations) -> list[PlannedRun]:
    """Returns a point's runs; none if its parameters are incompatible."""
    try:
        return [configurations.run(point, seed) for seed in seeds]
    except UserError:
        return []


def studied_runs(sweep: SweepConfig, configurations: Configurations, folder: Path) -> list[PlannedRun]:
    """Returns the runs of all trials of a study so far, including confirmations; none if there is no study."""
    study = load_study(sweep.name, folder)
    if study is None:
        return []
    runs = [run for trial in study.trials for run in valid_runs(trial.params, sweep.seeds, configurations)]
    settings = sweep.search.confirmation if sweep.search else None
    for each in study.user_attrs.get(CONFIRMATION, ()):
        if settings is not None:
            runs += confirmation_runs(settings, each["parameters"], sweep.seeds, configurations)
    return list({run.keys.evaluation: run for run in runs}.values())


def ends_without_result(sweep: SweepConfig, configurations: Configurations, folder: Path) -> dict[str, str]:
    """Returns, by evaluation key, how the runs of finished trials ended that may have no result in the store: pruned,
    failed, or not begun because the trial's other seeds decided it."""
    study = load_study(sweep.name, folder)
    ends: dict[str, str] = {}
    for trial in study.trials if study else ():
        if trial.state in (TrialState.PRUNED, TrialState.FAIL):
            runs = valid_runs(trial.params, sweep.seeds, configurations)
            end = "pruned" if trial.state is TrialState.PRUNED else "failed"
            first = {run.keys.evaluation: end for run in runs[:1]}
            known = trial.user_attrs.get(ENDS, first)  # earlier versions did not store it, or under other keys
            if not known.keys() & {run.keys.evaluation for run in runs}:
                known = first
            ends |= {run.keys.evaluation: known.get(run.keys.evaluation, "not begun") for run in runs}
    return ends


def ends_noted(name: str, folder: Path) -> dict[str, str]:
    """Returns, by evaluation key, how those runs of a search ended that the study notes as pruned or failed."""
    study = load_study(name, folder)
    return {key: end for trial in study.trials for key, end in trial.user_attrs.get(ENDS, {}).items()} if study else {}


def load_study(name: str, folder: Path) -> "optuna.Study | None":
    """Loads the study in a sweep's folder for reading; None if there is none of this name.

    Raises:
        UserError: its journal can't be read.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal = folder / JOURNAL
    if not journal.exists():
        return None
    storage = open_journal(journal)
    try:
        return optuna.load_study(study_name=name, storage=storage)
    except KeyError:
        return None


def describe(sweep: SweepConfig, folder: Path) -> list[str]:
    """Describes a search in lines: its trials, and the results of its confirmation."""
    study, objectives = load_study(sweep.name, folder), sweep.objectives
    if study is None or sweep.search is None:
        return []
    names = short_names(sweep.search.space)
    states: dict[str, int] = {}
    for trial in study.trials:
        states[trial.state.name.lower()] = states.get(trial.state.name.lower(), 0) + 1
    line = f"{len(study.trials)} trials: {', '.join(f'{count} {state}' for state, count in states.items())}"
    titles = ["Winner", "Runner-up"]
    if len(objectives) > 1:
        titles = ["Pareto front"] * MOST_CONFIRMED
        line += f"; {len(pareto_front(study.trials, objectives))} on the Pareto front"
    lines = [f"{line}."]
    if steered := study.user_attrs.get(STEERED):
        lines.append(steered_words(steered, sweep.name))
    for title, each in zip(titles, read_confirmed(study.user_attrs, objectives), strict=False):
        lines.append(f"{title}, trial {each.trial}: {point(each.parameters, names)}")
        searched = ", ".join(f"{metric} {written(metric, value)}" for metric, value in each.searched.items())
        lines.append(f"    {searched} in the search; {again(each)}")
    return lines


def point(parameters: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """Formats a point: `alpha 1.25, cfg 2.0`."""
    return ", ".join(f"{names.get(parameter, parameter)} {shown(value)}" for parameter, value in parameters.items())


def again(each: Confirmed) -> str:
    """Describes a configuration's results with fresh seeds."""
    if not each.mean:
        return f"no value in the confirmation: all of {len(each.seeds)} fresh seeds diverged"
    values = []
    for metric, mean in each.mean.items():
        interval = f" ± {written(metric, each.half_width[metric])}" if metric in each.half_width else ""
        values.append(f"{metric} {written(metric, mean)}{interval}")
    confidence = " (95%)" if each.half_width else ""
    diverged = f", {each.diverged} diverged" if each.diverged else ""
    seeds = f"over {len(each.seeds)} fresh seeds and {each.images} images each"
    return f"{', '.join(values)}{confidence} {seeds}{diverged}"
