"""The winner and the runner-up once more, with fresh seeds: free of the luck that made them win."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import Any

from scipy import stats

from sweeps.configurations import Configurations
from sweeps.runs import PlannedRun, RunResult
from sweeps.search.schema import ConfirmationConfig

CONFIDENCE = 0.95
FIRST_FRESH_SEED = 1000  # above the sweep's own


@dataclass(frozen=True)
class Confirmed:
    """A configuration of the search, measured again."""

    trial: int
    parameters: dict[str, Any]
    searched: float  # its value in the search, by which it was chosen
    mean: float | None  # over the fresh seeds; None where none finished
    half_width: float | None  # of Student's 95% interval; None of fewer than two
    seeds: list[int]
    diverged: int  # of them
    images: int
    runs: list[str]  # their evaluations' keys


def confirmation_runs(
    settings: ConfirmationConfig, parameters: Mapping[str, Any], seeds: Sequence[int], configurations: Configurations
) -> list[PlannedRun]:
    """A configuration with seeds of training and evaluation that the search has not seen."""
    searched = configurations.base.evaluation
    fresh = {"evaluation.seed": searched.seed + 1, "evaluation.images": settings.images or 2 * searched.images}
    first = max(seeds) + FIRST_FRESH_SEED
    return [configurations.run({**parameters, **fresh}, first + number) for number in range(settings.seeds)]


def confirmed(
    trial: int,
    parameters: dict[str, Any],
    searched: float,
    metric: str,
    runs: Sequence[PlannedRun],
    results: Sequence[RunResult],
) -> dict[str, Any]:
    """`Confirmed`, as JSON values."""
    values = [result.metrics[metric] for result in results if metric in result.metrics]
    return asdict(
        Confirmed(
            trial=trial,
            parameters=parameters,
            searched=searched,
            mean=fmean(values) if values else None,
            half_width=half_width(values),
            seeds=[run.seed for run in runs],
            diverged=sum(result.state == "diverged" for result in results),
            images=runs[0].config.evaluation.images,
            runs=[run.keys.evaluation for run in runs],
        )
    )


def half_width(values: Sequence[float]) -> float | None:
    """Half of Student's 95% interval of the mean; None of fewer than two values."""
    if len(values) < 2:
        return None
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
