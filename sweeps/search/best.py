"""Which of a study's trials are its best."""

from collections.abc import Sequence

from optuna.trial import FrozenTrial, TrialState

from sweeps.search.domination import Outcome, front, outcome


def outcome_of(trial: FrozenTrial, metrics: Sequence[str]) -> Outcome:
    """Of a COMPLETE trial, with its constraints as samplers see them."""
    return outcome(trial.values, metrics, list(trial.constraints.values()))


def undominated(trials: Sequence[FrozenTrial], metrics: Sequence[str]) -> list[FrozenTrial]:
    """Those among them that are COMPLETE and that no other one dominates, in their order."""
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    return [complete[number] for number in front([outcome_of(trial, metrics) for trial in complete])]
