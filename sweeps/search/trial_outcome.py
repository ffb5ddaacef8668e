"""The outcome of a trial, from the results of its runs."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from optuna.trial import TrialState

from sweeps.spec.runs import RunResult
from sweeps.spec.search_schema import BoundConfig


class TrialOutcome(NamedTuple):
    """What the study is told about a trial."""

    state: TrialState
    values: list[float] | None  # of the objectives, if COMPLETE
    attributes: dict[str, Any]


def trial_outcome(results: Sequence[RunResult], objectives: Sequence[str]) -> TrialOutcome:
    """Returns the outcome of a trial whose runs ended with these results; its values are means over them.

    A divergence counts as PRUNED, not FAIL: samplers ignore failed trials and would propose the point again.
    """
    for result in results:
        if result.state == "failed":
            said = {"error": result.traceback.strip().splitlines()[-1:], "traceback": result.traceback}
            return TrialOutcome(TrialState.FAIL, None, said)
    if any(result.state == "pruned" for result in results):
        return TrialOutcome(TrialState.PRUNED, None, {})
    if diverged := [result.diverged_at for result in results if result.state == "diverged"]:
        return TrialOutcome(TrialState.PRUNED, None, {"diverged_at": diverged[0], "diverged": len(diverged)})
    metrics = {name: fmean(result.metrics[name] for result in results) for name in results[0].metrics}
    values = [metrics[name] for name in objectives]
    if not all(math.isfinite(value) for value in values):
        return TrialOutcome(TrialState.FAIL, None, {"error": ["a metric is not finite"], "not finite": str(metrics)})
    return TrialOutcome(TrialState.COMPLETE, values, {"metrics": metrics})


def violations(attributes: Mapping[str, Any], constraints: Mapping[Any, BoundConfig]) -> dict[str, float]:
    """Returns the violation of each constraint by a trial with these attributes; without metrics, all are violated."""
    metrics = attributes.get("metrics", {})
    return {
        f"{name} {side}": violation
        for name, bound in constraints.items()
        for side, violation in bound.violations(metrics.get(name, math.nan)).items()
    }
