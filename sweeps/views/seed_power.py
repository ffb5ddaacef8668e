"""States which difference a planned grid's seeds can tell apart, from the variance of results in the store."""

import json
import math
from collections.abc import Iterator
from itertools import combinations, islice
from statistics import median, variance
from typing import Literal, get_args

from ear.errors import UserError
from ear.evaluation.result import load_evaluation
from ear.store import Store
from sweeps.spec.metric import written
from sweeps.spec.plan import Plan
from sweeps.spec.power import POWER, detectable_difference
from sweeps.spec.sweep_record import SweepRecord, load_records, recorded_names

Sharing = Literal["none", "some", "all"]  # of the training stages of two runs with one seed
SHARING: tuple[Sharing, ...] = get_args(Sharing)
MOST_PAIRS = 1000  # of configurations in a sweep; more would not change the median


def power_line(plan: Plan, store: Store) -> str:
    """Returns a sentence on the power of a grid's seeds; empty where nothing is known or there is nothing to compare.

    The standard deviation of differences is the median over pairs of configurations in sweeps of this output root that
    were evaluated alike (same reference and extractor, as many images), and that share as much training as the plan's
    do: all of it, some stages, or none. Configurations with one training differ much less from seed to seed.
    """
    metric, seeds = plan.sweep.objectives[0], len(plan.sweep.seeds)
    if plan.sweep.search is not None or len(plan.runs) <= seeds:
        return ""
    found = list(spreads(plan, store, metric))
    if not found:
        return ""
    spread = median(found)
    about = f"differences vary by {written(metric, spread)} from seed to seed, the median of {len(found)} pairs of "
    about += "configurations in the store"
    if (difference := detectable_difference(seeds, spread)) is None:
        return f"Power: one seed tells nothing apart ({about})."
    return (
        f"Power: {seeds} seeds tell two configurations apart that differ by {written(metric, difference)} in "
        f"{metric}, with a probability of {POWER:.0%} ({about})."
    )


Measured = dict[int, tuple[float, list[str]]]  # seed -> the metric and the keys of the training stages


def spreads(plan: Plan, store: Store, metric: str) -> Iterator[float]:
    """Yields the standard deviation over seeds of the difference between two configurations, for pairs in the store."""
    root, wanted = store.folder.parent, planned_sharing(plan)
    for name in recorded_names(root):
        try:
            records = load_records(root, name)
        except UserError:  # `ear report` tells of it
            continue
        for record in records:
            for one, other in islice(combinations(by_configuration(record, plan, store, metric), 2), MOST_PAIRS):
                seeds = sorted(one.keys() & other.keys())
                if len(seeds) < 2 or sharing(one[seeds[0]][1], other[seeds[0]][1]) != wanted:
                    continue
                if (found := variance([one[seed][0] - other[seed][0] for seed in seeds])) > 0:
                    yield math.sqrt(found)


def planned_sharing(plan: Plan) -> Sharing:
    """Returns how much training two configurations of a grid share, at least."""
    seed = plan.runs[0].seed
    first, *others = [list(run.keys.stages) for run in plan.runs if run.seed == seed]
    return min((sharing(first, other) for other in others), key=SHARING.index)


def sharing(one: list[str], other: list[str]) -> Sharing:
    """Returns how much training two runs with these stages share."""
    if one == other:
        return "all"
    return "some" if one[:1] == other[:1] else "none"


def by_configuration(record: SweepRecord, plan: Plan, store: Store, metric: str) -> list[Measured]:
    """Returns, for each configuration of a grid that was evaluated like the plan's runs, what was measured by seed."""
    if record.settings.get("search"):
        return []
    keys, images = plan.runs[0].keys, plan.runs[0].config.evaluation.images
    values: dict[str, Measured] = {}
    for run in record.runs:
        if run.evaluation not in store:
            continue
        try:
            needs, found = store.entry(run.evaluation).needs, load_evaluation(run.evaluation, store)
        except UserError:  # damaged
            continue
        if {keys.reference, keys.extractor} <= set(needs) and found.images == images and metric in found.metrics:
            values.setdefault(json.dumps(run.parameters), {})[run.seed] = (found.metrics[metric], run.stages)
    return list(values.values())
