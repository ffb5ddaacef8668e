"""Which of a study's trials are its best."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from sweeps.search.domination import Outcome, front, outcome


def undominated(trials: Sequence[FrozenTrial], metrics: Sequence[str]) -> list[FrozenTrial]:
    """Those among them that are COMPLETE and that no other one dominates, in their order."""
    found = complete(trials)
    return [found[number] for number in front([outcome_of(trial, metrics) for trial in found])]


def pareto_front(trials: Sequence[FrozenTrial], metrics: Sequence[str]) -> list[FrozenTrial]:
    """The feasible ones that no other one dominates, by the first objective, best first."""
    return by_first_objective(feasible(undominated(trials, metrics)), metrics)


def best_trainings(
    trials: Sequence[FrozenTrial],
    metrics: Sequence[str],
    training_of: Callable[[Mapping[str, Any]], Mapping[str, Any]],
) -> list[FrozenTrial]:
    """The feasible ones by the first objective, best first, none of them trained like one before.

    `training_of` picks out of a point's parameters those that need training.
    """
    found: dict[str, FrozenTrial] = {}
    for trial in by_first_objective(feasible(complete(trials)), metrics):
        found.setdefault(repr(sorted(training_of(trial.params).items())), trial)
    return list(found.values())


def complete(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    return [trial for trial in trials if trial.state is TrialState.COMPLETE]


def feasible(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Those that hold all constraints."""
    return [trial for trial in trials if all(violation <= 0 for violation in trial.constraints.values())]


def by_first_objective(trials: Sequence[FrozenTrial], metrics: Sequence[str]) -> list[FrozenTrial]:
    return sorted(trials, key=lambda trial: outcome_of(trial, metrics).losses[0])


def outcome_of(trial: FrozenTrial, metrics: Sequence[str]) -> Outcome:
    """Of a COMPLETE trial, with its constraints as samplers see them."""
    return outcome(trial.values, metrics, list(trial.constraints.values()))
