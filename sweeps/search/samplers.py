"""Builds Optuna's samplers and pruners from the schema."""

import warnings
from typing import Any

import optuna
from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, PartialFixedSampler, RandomSampler, TPESampler

from ear.random import stream_seed
from sweeps.spec.search_schema import SearchConfig

POPULATION = (8, 50)  # smallest and largest population of the genetic algorithm

# PartialFixedSampler and conditional spaces have been marked experimental for years.
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


def sampler_for(search: SearchConfig, number: int, fixed: dict[str, Any]) -> BaseSampler:
    """Returns the sampler of one proposal, seeded by its number: equal numbers and equal histories give equal points.

    `fixed` parameters keep their values. After a kill the history may differ if several trials run at a time.
    """
    sampler = _sampler(search, stream_seed(search.seed, "proposal", number) % 2**32)
    return PartialFixedSampler(fixed, sampler) if fixed else sampler


def _sampler(search: SearchConfig, seed: int) -> BaseSampler:
    match search.sampler:
        case "random":
            return RandomSampler(seed)
        case "tpe":
            return TPESampler(
                seed=seed,
                multivariate=True,
                group=any(dimension.when for dimension in search.space.values()),
                constant_liar=True,  # several proposals run at a time
            )
        case "gp":
            return GPSampler(seed=seed)
        case "nsga2":
            smallest, largest = POPULATION
            return NSGAIISampler(seed=seed, population_size=min(max(search.trials // 5, smallest), largest))


def pruner_for(search: SearchConfig) -> BasePruner:
    """Returns the pruner that decides whether a training stops early."""
    settings = search.early_stopping
    if settings is None:
        return NopPruner()
    if settings.name == "asha":
        return SuccessiveHalvingPruner(min_resource=settings.every, reduction_factor=settings.reduction_factor)
    # The pruner counts finished trials, and each training has several.
    return MedianPruner(n_startup_trials=settings.startup_trials * (1 + search.evaluations))
