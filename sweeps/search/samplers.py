"""Optuna's samplers and pruners as the schema names them."""

from collections.abc import Callable, Sequence
from typing import Any

import optuna
from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, PartialFixedSampler, RandomSampler, TPESampler

from ear.random import stream_seed
from sweeps.search.schema import SearchConfig

VIOLATIONS = "violations"  # user attribute: what Optuna asks for of constraints, above 0 where one is not held
POPULATION = (8, 50)  # smallest and largest of the genetic algorithm


def sampler_for(search: SearchConfig, number: int, fixed: dict[str, Any]) -> BaseSampler:
    """The sampler of one proposal, seeded by its number, so that a search that goes on proposes what it would have.

    `fixed` parameters keep their values.
    """
    sampler = _sampler(search, stream_seed(search.seed, "proposal", number) % 2**32)
    return PartialFixedSampler(fixed, sampler) if fixed else sampler


def _sampler(search: SearchConfig, seed: int) -> BaseSampler:
    constraints: Callable[[optuna.trial.FrozenTrial], Sequence[float]] | None = None
    if search.constraints:
        constraints = violations
    match search.sampler:
        case "random":
            return RandomSampler(seed)
        case "tpe":
            return TPESampler(
                seed=seed,
                multivariate=True,
                group=any(dimension.when for dimension in search.space.values()),
                constant_liar=True,  # several proposals are at work at a time
                constraints_func=constraints,
                warn_independent_sampling=False,
            )
        case "gp":
            return GPSampler(seed=seed, constraints_func=constraints, warn_independent_sampling=False)
        case "nsga2":
            smallest, largest = POPULATION
            population = min(max(search.trials // 5, smallest), largest)
            return NSGAIISampler(seed=seed, population_size=population, constraints_func=constraints)


def violations(trial: optuna.trial.FrozenTrial) -> Sequence[float]:
    """Of a told trial; one without metrics (diverged, stopped early) violates."""
    found: Sequence[float] = trial.user_attrs.get(VIOLATIONS, (1.0,))
    return found


def pruner_for(search: SearchConfig) -> BasePruner:
    """What decides whether a training is stopped early."""
    settings = search.early_stopping
    if settings is None:
        return NopPruner()
    if settings.name == "asha":
        return SuccessiveHalvingPruner(min_resource=settings.every, reduction_factor=settings.reduction_factor)
    return MedianPruner(n_startup_trials=settings.startup_trials)
