"""Constrained domination: which outcomes no other outcome beats (Deb 2000; Deb et al. 2002, NSGA-II).

    A feasible outcome beats an infeasible one.
    Of two infeasible outcomes, the one with the smaller sum of violations wins.
    Of two feasible outcomes, the one that is nowhere worse and somewhere better wins: Pareto domination.

Not by Optuna's `Study.best_trials`, which returns nothing if no trial is feasible, and keeps all equal trials.
"""

from collections.abc import Sequence
from typing import NamedTuple

from sweeps.spec.metric import better


class Outcome(NamedTuple):
    """The measurements of a configuration that decide domination."""

    violation: float  # sum over all constraints; 0 if all hold
    losses: tuple[float, ...]  # the objectives, with signs so that lower is better


def outcome(values: Sequence[float], metrics: Sequence[str], violations: Sequence[float] = ()) -> Outcome:
    """Builds an outcome from the metrics' values; `violations` are above 0 for violated constraints."""
    signed = zip(values, metrics, strict=True)
    losses = tuple(value if better(metric) == "min" else -value for value, metric in signed)
    return Outcome(sum(violation for violation in violations if violation > 0), losses)


def as_good_as(one: Outcome, other: Outcome) -> bool:
    """Whether the first outcome beats the second or equals it."""
    if one.violation or other.violation:
        return one.violation <= other.violation
    return all(loss <= another for loss, another in zip(one.losses, other.losses, strict=True))


def dominates(one: Outcome, other: Outcome) -> bool:
    """Whether the first outcome beats the second."""
    return as_good_as(one, other) and not as_good_as(other, one)


def front(outcomes: Sequence[Outcome]) -> list[int]:
    """Returns the indices of the outcomes that no other outcome dominates; of equal outcomes, the first one's.

    So there is exactly one with a single objective, or if nothing is feasible.
    """

    def rank(number: int) -> tuple[float, tuple[float, ...]]:
        violation, losses = outcomes[number]
        return violation, () if violation else losses

    kept: list[int] = []
    # In this order no outcome dominates an earlier one, so each is compared only with those that were kept.
    for number in sorted(range(len(outcomes)), key=rank):
        if not any(as_good_as(outcomes[other], outcomes[number]) for other in kept):
            kept.append(number)
    return sorted(kept)
