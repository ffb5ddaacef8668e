"""Optuna's samplers and pruners as the schema names them."""

import warnings
from typing import Any

import optuna
from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, PartialFixedSampler, RandomSampler, TPESampler

from ear.random import stream_seed
from sweeps.spec.search_schema import SearchConfig

POPULATION = (8, 50)  # smallest and largest of the genetic algorithm

# Partly fixed points and conditional spaces are called experimental for years now.
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


def sampler_for(search: SearchConfig, number: int, fixed: dict[str, Any]) -> BaseSampler:
    """The sampler of one proposal, seeded by its number: the same number and the same trials give the same point.

    After a kill other trials may have ended by then than would have, unless one is worked on at a time. `fixed`
    parameters keep their values.
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
                constant_liar=True,  # several proposals are at work at a time
            )
        case "gp":
            return GPSampler(seed=seed)
        case "nsga2":
            smallest, largest = POPULATION
            return NSGAIISampler(seed=seed, population_size=min(max(search.trials // 5, smallest), largest))


def pruner_for(search: SearchConfig) -> BasePruner:
    """What decides whether a training is stopped early."""
    settings = search.early_stopping
    if settings is None:
        return NopPruner()
    if settings.name == "asha":
        return SuccessiveHalvingPruner(min_resource=settings.every, reduction_factor=settings.reduction_factor)
    # The pruner counts finished trials, of which each training has several.
    return MedianPruner(n_startup_trials=settings.startup_trials * (1 + search.evaluations))
