"""Confirms the best configurations of a search with fresh seeds, which removes the search's selection bias.

With one objective: winner and runner-up. With several: the Pareto front, at most `MOST_CONFIRMED` of its members.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any

from optuna.trial import FrozenTrial

from sweeps.spec.confidence import half_width
from sweeps.spec.configurations import Configurations
from sweeps.spec.metric import better
from sweeps.spec.runs import PlannedRun, RunResult
from sweeps.spec.search_schema import ConfirmationConfig

FIRST_FRESH_SEED = 1000  # offset of the fresh seeds above the sweep's own
WINNER_AND_RUNNER_UP = 2
MOST_CONFIRMED = 8  # members of a Pareto front
CONFIRMATION = "confirmation"  # study attribute: the confirmed configurations, each as `Confirmed`


@dataclass(frozen=True)
class Confirmed:
    """The result of confirming one configuration."""

    trial: int
    parameters: dict[str, Any]
    searched: dict[str, float]  # each objective's value in the search
    mean: dict[str, float]  # of each objective over the fresh seeds; empty if none finished
    half_width: dict[str, float]  # of Student's 95% interval; empty with fewer than two values
    seeds: list[int]  # fresh seeds
    diverged: int  # how many of them diverged
    images: int  # images with class labels per evaluation
    runs: list[str]  # evaluation keys


@dataclass
class Candidate:
    """A configuration that is being confirmed."""

    trial: FrozenTrial
    runs: list[PlannedRun]
    results: dict[str, RunResult] = field(default_factory=dict)

    @property
    def keys(self) -> list[str]:
        """The evaluation keys of its runs."""
        return [run.keys.evaluation for run in self.runs]

    @property
    def done(self) -> bool:
        """Whether all of its runs have a result. Failed runs do not count: the next driver tries them again."""
        found = [self.results.get(key) for key in self.keys]
        return all(result is not None and result.state != "failed" for result in found)


def chosen(best: Sequence[FrozenTrial], metrics: Sequence[str]) -> list[FrozenTrial]:
    """Selects the trials to confirm from a search's best, which are sorted by the first objective."""
    if len(metrics) == 1:
        return list(best[:WINNER_AND_RUNNER_UP])
    sign = 1 if better(metrics[0]) == "min" else -1
    return [best[number] for number in spread([sign * trial.values[0] for trial in best], MOST_CONFIRMED)]


def spread(points: Sequence[float], most: int) -> list[int]:
    """Returns the indices of `most` of these ascending points, spread evenly from first to last; of all if few."""
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
    """Returns a configuration's runs with training and evaluation seeds that the search has not used."""
    searched = configurations.base.evaluation
    fresh = {
        "evaluation.seed": (searched.seed + 1) % 2**63,
        "evaluation.images": settings.images or 2 * searched.images,
    }
    first = max(seeds) + FIRST_FRESH_SEED
    return [configurations.run({**parameters, **fresh}, first + number) for number in range(settings.seeds)]


def confirmed(candidate: Candidate, metrics: Sequence[str]) -> dict[str, Any]:
    """Summarises a finished candidate as a `Confirmed`, in JSON values."""
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
    """Reads the confirmed configurations from a study's attributes.

    Earlier versions stored only the first objective's numbers. With several objectives they did not select a Pareto
    front, so their results are ignored until the next run has confirmed the front.
    """
    found: list[dict[str, Any]] = attributes.get(CONFIRMATION) or []
    if any(not isinstance(each["searched"], dict) for each in found):
        if len(metrics) > 1:
            return []
        for name in ("searched", "mean", "half_width"):
            found = [{**each, name: {} if each[name] is None else {metrics[0]: each[name]}} for each in found]
    return [Confirmed(**each) for each in found]
