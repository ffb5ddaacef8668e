"""Ranks a grid's configurations by the mean of the objective over seeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from ear.store import Store
from sweeps.spec.confidence import half_width
from sweeps.spec.metric import better, written
from sweeps.spec.naming import shown
from sweeps.spec.plan import Plan
from sweeps.spec.runs import PlannedRun, result_of


@dataclass(frozen=True)
class Ranked:
    """A configuration all of whose seeds were evaluated."""

    runs: tuple[PlannedRun, ...]  # one for each seed
    values: tuple[float, ...]  # of the objective

    @property
    def mean(self) -> float:
        """The mean over seeds."""
        return fmean(self.values)

    @property
    def parameters(self) -> str:
        """The configuration for people: `alpha=1.25`."""
        run = self.runs[0]
        return " ".join(f"{run.names[name]}={shown(value)}" for name, value in run.parameters.items())


def ranking(plan: Plan, store: Store) -> tuple[list[Ranked], int]:
    """Returns a grid's configurations, best first by the first objective, and how many can't be ranked.

    A configuration is ranked if each of its seeds has a finite value: one that diverged has no mean.
    """
    groups: dict[str, list[PlannedRun]] = {}
    for run in plan.runs:
        groups.setdefault(repr(run.parameters), []).append(run)
    found = []
    for runs in groups.values():
        results = [result_of(run, store) for run in runs]
        values = [result.metrics.get(plan.sweep.objective, math.nan) if result else math.nan for result in results]
        if all(map(math.isfinite, values)):
            found.append(Ranked(tuple(runs), tuple(values)))
    found.sort(key=lambda each: each.mean, reverse=better(plan.sweep.objective) == "max")
    return found, len(groups) - len(found)


def best_lines(ranked: Sequence[Ranked], unranked: int, objective: str) -> list[str]:
    """Returns the best configuration in words, and how many have no rank."""
    lines = []
    if unranked:
        has = "configuration has" if unranked == 1 else "configurations have"
        lines.append(f"{unranked} {has} no value for each seed (diverged, failed or not run) and no rank.")
    if not ranked:
        return lines
    best = ranked[0]
    seeds = len(best.values)
    extreme = "lowest" if better(objective) == "min" else "highest"
    half = half_width(best.values)
    interval = "" if half is None else f" ± {written(objective, half)} (95%)"
    over = f"{seeds} seeds" if seeds > 1 else "one seed, so no interval: the order may be chance"
    value = f"{extreme} {'mean ' if seeds > 1 else ''}{objective} {written(objective, best.mean)}{interval}"
    return [*lines, f"Best of {len(ranked)} configurations:  {best.parameters}, {value}; {over}"]
