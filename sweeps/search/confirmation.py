"""The best of a search once more, with fresh seeds: free of the luck that made them the best.

With one objective winner and runner-up; with several the Pareto front, or so many of its members.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean, stdev
from typing import Any

from optuna.trial import FrozenTrial
from scipy import stats

from sweeps.spec.configurations import Configurations
from sweeps.spec.metric import better
from sweeps.spec.runs import PlannedRun, RunResult
from sweeps.spec.search_schema import ConfirmationConfig

CONFIDENCE = 0.95
FIRST_FRESH_SEED = 1000  # above the sweep's own
WINNER_AND_RUNNER_UP = 2
MOST_CONFIRMED = 8  # of a Pareto front
CONFIRMATION = "confirmation"  # attribute of the study: what was measured again, each as `Confirmed`


@dataclass(frozen=True)
class Confirmed:
    """A configuration of the search, measured again."""

    trial: int
    parameters: dict[str, Any]
    searched: dict[str, float]  # each objective's value in the search, by which it was chosen
    mean: dict[str, float]  # over the fresh seeds; empty where none finished
    half_width: dict[str, float]  # of Student's 95% interval; empty of fewer than two
    seeds: list[int]
    diverged: int  # of them
    images: int
    runs: list[str]  # their evaluations' keys


@dataclass
class Candidate:
    """A configuration that is measured again at the end."""

    trial: FrozenTrial
    runs: list[PlannedRun]
    results: dict[str, RunResult] = field(default_factory=dict)

    @property
    def keys(self) -> list[str]:
        return [run.keys.evaluation for run in self.runs]

    @property
    def done(self) -> bool:
        """Whether all of its runs have ended, none by a fault: those are tried again by the next driver."""
        found = [self.results.get(key) for key in self.keys]
        return all(result is not None and result.state != "failed" for result in found)


def chosen(best: Sequence[FrozenTrial], metrics: Sequence[str]) -> list[FrozenTrial]:
    """Those to measure again among a search's best, which are sorted by the first objective."""
    if len(metrics) == 1:
        return list(best[:WINNER_AND_RUNNER_UP])
    sign = 1 if better(metrics[0]) == "min" else -1
    return [best[number] for number in spread([sign * trial.values[0] for trial in best], MOST_CONFIRMED)]


def spread(points: Sequence[float], most: int) -> list[int]:
    """Where so many of these points stand, which ascend, spread evenly from the first to the last; all of a few."""
    left = list(range(len(points)))
    if len(points) <= most:
        return left
    picked = []
    for step in range(most):
        target = points[0] + (points[-1] - points[0]) * step / (most - 1)
        picked.append(min(left, key=lambda number: abs(points[number] - target)))
        left.remove(picked[-1])
    return sorted(picked)


def confirmation_runs(
    settings: ConfirmationConfig, parameters: Mapping[str, Any], seeds: Sequence[int], configurations: Configurations
) -> list[PlannedRun]:
    """A configuration with seeds of training and evaluation that the search has not seen."""
    searched = configurations.base.evaluation
    fresh = {
        "evaluation.seed": (searched.seed + 1) % 2**63,
        "evaluation.images": settings.images or 2 * searched.images,
    }
    first = max(seeds) + FIRST_FRESH_SEED
    return [configurations.run({**parameters, **fresh}, first + number) for number in range(settings.seeds)]


def confirmed(candidate: Candidate, metrics: Sequence[str]) -> dict[str, Any]:
    """`Confirmed`, as JSON values, of a candidate that is done."""
    results = [candidate.results[key] for key in candidate.keys]
    values = {name: [result.metrics[name] for result in results if name in result.metrics] for name in metrics}
    widths = {name: half_width(numbers) for name, numbers in values.items()}
    return asdict(
        Confirmed(
            trial=candidate.trial.number,
            parameters=candidate.trial.params,
            searched=dict(zip(metrics, candidate.trial.values, strict=True)),
            mean={name: fmean(numbers) for name, numbers in values.items() if numbers},
            half_width={name: width for name, width in widths.items() if width is not None},
            seeds=[run.seed for run in candidate.runs],
            diverged=sum(result.state == "diverged" for result in results),
            images=candidate.runs[0].config.evaluation.images,
            runs=candidate.keys,
        )
    )


def read_confirmed(attributes: Mapping[str, Any], metrics: Sequence[str]) -> list[Confirmed]:
    """What a study's attributes say was measured again.

    Earlier versions kept numbers, of the first objective. With several objectives their choice was no Pareto front,
    and is left out until the next run has measured that.
    """
    found: list[dict[str, Any]] = attributes.get(CONFIRMATION) or []
    if any(not isinstance(each["searched"], dict) for each in found):
        if len(metrics) > 1:
            return []
        for name in ("searched", "mean", "half_width"):
            found = [{**each, name: {} if each[name] is None else {metrics[0]: each[name]}} for each in found]
    return [Confirmed(**each) for each in found]


def half_width(values: Sequence[float]) -> float | None:
    """Half of Student's 95% interval of the mean; None of fewer than two values."""
    if len(values) < 2:
        return None
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
