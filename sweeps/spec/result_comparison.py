"""Whether MLflow shows of a run what the store has."""

import math
from collections.abc import Mapping

from sweeps.spec.runs import RunResult

STORED_OUTCOMES = {"evaluated": "finished", "diverged": "diverged"}  # by the state of what the store has


def differs(result: RunResult | None, outcome: str, shown: Mapping[str, float]) -> bool:
    """Whether MLflow has another outcome of it, or other metrics, than the store."""
    if result is None or outcome != STORED_OUTCOMES.get(result.state):
        return True
    if result.diverged_at is not None:
        return shown.get("diverged_at") != result.diverged_at
    return any(not same_number(shown.get(name), value) for name, value in result.metrics.items())


def same_number(one: float | None, other: float | None) -> bool:
    """Up to rounding; what is not a number is the same as none."""
    known = [math.nan if value is None else value for value in (one, other)]
    return math.isclose(*known) or all(map(math.isnan, known))
