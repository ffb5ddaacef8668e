"""Constrained domination: which of several outcomes no other one beats (Deb 2000; Deb et al. 2002, NSGA-II).

    feasible beats infeasible
    of two infeasible ones the one whose violations add up to less
    of two feasible ones the one that is nowhere worse and somewhere better: Pareto domination

Optuna's `Study.best_trials` has no answer where nothing is feasible, and keeps all of some that are alike.
"""

from collections.abc import Sequence
from typing import NamedTuple

from sweeps.spec.metric import better


class Outcome(NamedTuple):
    """What was measured of a configuration, as far as it decides."""

    violation: float  # of all constraints together; 0 where each is held
    losses: tuple[float, ...]  # the objectives, each turned so that less is better


def outcome(values: Sequence[float], metrics: Sequence[str], violations: Sequence[float] = ()) -> Outcome:
    """Of these metrics' values; `violations` are above 0 where a constraint is not held."""
    signed = zip(values, metrics, strict=True)
    losses = tuple(value if better(metric) == "min" else -value for value, metric in signed)
    return Outcome(sum(violation for violation in violations if violation > 0), losses)


def as_good_as(one: Outcome, other: Outcome) -> bool:
    """Whether the first beats the second, or nothing tells them apart."""
    if one.violation or other.violation:
        return one.violation <= other.violation
    return all(loss <= another for loss, another in zip(one.losses, other.losses, strict=True))


def dominates(one: Outcome, other: Outcome) -> bool:
    return as_good_as(one, other) and not as_good_as(other, one)


def front(outcomes: Sequence[Outcome]) -> list[int]:
    """Where those stand that no other one dominates; of some that nothing tells apart, the first.

    So it is one for a single objective, or where nothing is feasible.
    """

    def rank(number: int) -> tuple[float, tuple[float, ...]]:
        violation, losses = outcomes[number]
        return violation, () if violation else losses

    kept: list[int] = []
    # In this order none dominates one before it, so that each needs a comparison only with those that were kept.
    for number in sorted(range(len(outcomes)), key=rank):
        if not any(as_good_as(outcomes[other], outcomes[number]) for other in kept):
            kept.append(number)
    return sorted(kept)
