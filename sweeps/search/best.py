"""Selects the best trials of a study."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from sweeps.search.domination import Outcome, front, outcome


def undominated(trials: Sequence[FrozenTrial], metrics: Sequence[str]) -> list[FrozenTrial]:
    """Returns the COMPLETE trials that no other trial dominates, in their order."""
    found = complete(trials)
    return [found[number] for number in front([outcome_of(trial, metrics) for trial in found])]


def pareto_front(trials: Sequence[FrozenTrial], metrics: Sequence[str]) -> list[FrozenTrial]:
    """Returns the feasible trials that no other trial dominates, best first by the first objective."""
    return by_first_objective(feasible(undominated(trials, metrics)), metrics)


def best_trainings(
    trials: Sequence[FrozenTrial],
    metrics: Sequence[str],
    training_of: Callable[[Mapping[str, Any]], Mapping[str, Any]],
) -> list[FrozenTrial]:
    """Returns the best feasible trial of each training, best first by the first objective.

    `training_of` returns those of a point's parameters that need training.
    """
    found: dict[str, FrozenTrial] = {}
    for trial in by_first_objective(feasible(complete(trials)), metrics):
        found.setdefault(repr(sorted(training_of(trial.params).items())), trial)
    return list(found.values())


def complete(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Returns the COMPLETE trials."""
    return [trial for trial in trials if trial.state is TrialState.COMPLETE]


def feasible(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Returns the trials that satisfy all constraints."""
    return [trial for trial in trials if all(violation <= 0 for violation in trial.constraints.values())]


def by_first_objective(trials: Sequence[FrozenTrial], metrics: Sequence[str]) -> list[FrozenTrial]:
    """Sorts COMPLETE trials by the first objective, best first."""
    return sorted(trials, key=lambda trial: outcome_of(trial, metrics).losses[0])


def outcome_of(trial: FrozenTrial, metrics: Sequence[str]) -> Outcome:
    """Returns the outcome of a COMPLETE trial, with the constraint violations that Optuna's samplers see."""
    return outcome(trial.values, metrics, list(trial.constraints.values()))
