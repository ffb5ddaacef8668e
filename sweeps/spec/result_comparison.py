"""Compares a run's result in MLflow with its result in the store."""

import math
from collections.abc import Mapping

from sweeps.spec.runs import RunResult

STORED_OUTCOMES = {"evaluated": "finished", "diverged": "diverged"}  # state of a stored result -> outcome in MLflow


def differs(result: RunResult | None, outcome: str, shown: Mapping[str, float]) -> bool:
    """Whether MLflow's `outcome` and metrics (`shown`) of a run differ from its result in the store."""
    if result is None or outcome != STORED_OUTCOMES.get(result.state):
        return True
    if result.diverged_at is not None:
        return shown.get("diverged_at") != result.diverged_at
    return any(not same_number(shown.get(name), value) for name, value in result.metrics.items())


def same_number(one: float | None, other: float | None) -> bool:
    """Whether two values are equal up to rounding; NaN equals None."""
    known = [math.nan if value is None else value for value in (one, other)]
    return math.isclose(*known) or all(map(math.isnan, known))
