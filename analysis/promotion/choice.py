"""Chooses the configuration of a sweep that is promoted.

The configuration with the best mean, and all that can't be told from it, tie; the cheapest of them is chosen. With a
single seed nothing can be told, and the best value is chosen. Of a search with a confirmation, only what was confirmed
competes, with its values from the confirmation.

A tie is a paired t-test that does not find the other one worse at 5%, without a correction for the number of tests. The
corrected test that marks rows in tables (`comparison.not_worse`) is made to keep the truly best among the marked ones,
and with three seeds it keeps nearly all. Here the cheapest of a tie replaces the best, so to keep too many is the error
to avoid.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd

from analysis.axis_values import NOT_DRAWN, AxisValue
from analysis.comparison import by_seed, differences, not_worse
from analysis.promotion.bounds import in_words
from analysis.results import METRICS, SweepResults
from analysis.search import broken
from analysis.statistics import p_value, summarise
from ear.config import RunConfig
from ear.cost import cost
from ear.errors import UserError
from ear.store import Store
from ear.store.recorded_config import recorded_config
from sweeps.spec.confidence import CONFIDENCE, half_width
from sweeps.spec.configurations import value_of
from sweeps.spec.metric import better, written
from sweeps.spec.naming import plain, short_names, shown
from sweeps.spec.search_schema import BoundConfig


@dataclass(frozen=True)
class Candidate:
    """A configuration with a value."""

    parameters: dict[str, Any]  # the axes' values
    config: RunConfig  # of its first seed, as evaluated
    rows: list[dict[str, Any]]  # its finished runs (analysis.sweep_runs), by seed
    mean: float
    half_width: float | None  # of Student's 95% interval; None with one seed

    @property
    def name(self) -> str:
        """Names the configuration: `alpha=1.25 cfg=2.0`."""
        names = short_names(self.parameters)
        return " ".join(f"{names[each]}={shown(value)}" for each, value in self.parameters.items()) or "the base"

    @property
    def flops(self) -> tuple[float, float]:
        """The FLOPs of its whole training, and those of sampling an image."""
        found = cost(self.config)
        return found.total_training_flops, found.sampling_flops


@dataclass(frozen=True)
class Choice:
    """The configuration of a sweep that is promoted, and why."""

    metric: str
    constraints: dict[str, BoundConfig]
    winner: Candidate
    best: Candidate  # the one with the best mean
    tied: list[Candidate]  # all that can't be told from the best, without it; the winner is the best or among them
    compared: int  # configurations that could have been chosen
    possible: int  # of these, beside the best, those that may truly be the best, with a joint confidence of 95%
    left_out: list[str]  # why others could not, in sentences
    confirmed: bool  # whether the values are those of a search's confirmation
    trainings: list[dict[str, Any]] = field(default_factory=list)  # the winner's runs in the search or grid itself

    @property
    def statistics(self) -> bool:
        """Whether there are seeds enough to tell configurations apart."""
        return len(self.best.rows) > 1

    @property
    def reason(self) -> str:
        """Says in sentences why it was chosen."""
        seeds, value = len(self.best.rows), self.value(self.best)
        if self.compared == 1:
            return f"It is the only configuration to choose from; {self.metric} {value}."
        if not self.statistics:
            return (
                f"It has the best {self.metric}, {value}, of {self.compared} configurations. Each has one seed, so "
                "there are no statistics: the best of them may be luck."
            )
        joint = "With 95% joint confidence it is truly the best."
        if self.possible:
            joint = f"Jointly, with 95% confidence, {self.possible} more may truly be the best: more seeds would tell."
        return f"{self._tie(seeds, value)} {joint}"

    def _tie(self, seeds: int, value: str) -> str:
        tests = f"(paired t-tests over {seeds} seeds, each at 5%)"
        if not self.tied:
            return (
                f"Its mean {self.metric}, {value}, is the best of {self.compared} configurations, and none ties with "
                f"it {tests}."
            )
        others = self.compared - 1
        several = f"{len(self.tied)} of the other {others}" if others > 1 else "the other one"
        if self.winner is self.best:
            cheaper = "none of these is cheaper" if others > 1 else "it is not cheaper"
            return (
                f"Its mean {self.metric}, {value}, is the best of {self.compared} configurations; {several} can't be "
                f"told from it {tests}, and {cheaper}: {costs(self.winner)}."
            )
        return (
            f"The best mean {self.metric}, {value}, is that of {self.best.name}; {several} can't be told from it "
            f"{tests}, this one with {self.value(self.winner)} among them (difference {self.behind}). Of all that tie "
            f"it is the cheapest, by FLOPs of training, then of sampling: {costs(self.winner)}; {self.best.name}: "
            f"{costs(self.best)}."
        )

    @property
    def behind(self) -> str:
        """Formats the paired difference of the winner to the best mean."""
        best = {row["seed"]: row[self.metric] for row in self.best.rows}
        apart = [row[self.metric] - best[row["seed"]] for row in self.winner.rows if row["seed"] in best]
        return signed(self.metric, apart)

    def value(self, candidate: Candidate) -> str:
        """Formats a configuration's value of the metric."""
        return figure(self.metric, candidate.mean, candidate.half_width)


def figure(metric: str, mean: float, half_width: float | None) -> str:
    """Formats a mean and its interval: `14.20 ± 0.81`."""
    return written(metric, mean) + (f" ± {written(metric, half_width)}" if half_width is not None else "")


def signed(metric: str, differences: Sequence[float]) -> str:
    """Formats the mean of paired differences and its interval: `+0.20 ± 0.25`."""
    width = half_width(differences)
    mean = fmean(differences)
    return f"{'+' if mean >= 0 else ''}{figure(metric, mean, width)}"


def costs(candidate: Candidate) -> str:
    """Formats the costs that rank configurations which tie."""
    training, sampling = candidate.flops
    return f"{training:.3g} FLOPs of training, {sampling:.3g} of sampling an image"


def choose(results: SweepResults, metric: str, constraints: Mapping[str, BoundConfig], root: Path) -> Choice:
    """Chooses the configuration of a sweep that is promoted.

    Args:
        constraints: bounds on the means; a configuration that violates one is not chosen.

    Raises:
        UserError: no configuration can be chosen, or an evaluation is no longer in the store.
    """
    confirmed = not results.confirmations.empty and (results.confirmations["outcome"] == "finished").any()
    frame, by = (results.confirmations, ["trial"]) if confirmed else (results.frame, results.axes)
    summary = summarise(frame, by, METRICS)
    summary["config"] = range(len(summary))
    able, left_out = candidates(summary, metric, constraints)
    if able.empty:
        raise UserError(
            f"No configuration of {results.name!r} can be promoted: {'; '.join(left_out) or 'none has finished'}."
        )
    sign = 1 if better(metric) == "min" else -1
    values = sign * by_seed(frame, by, metric)
    rows = [row for _, row in able.iterrows()]
    best = min(rows, key=lambda row: sign * float(row[metric]))
    others = [row for row in rows if row is not best]
    tied = [row for row in others if is_tie(differences(values, row, best))]
    groups = [group for _, group in frame.groupby(by, sort=True, dropna=False)]
    store = Store(root, reading=True)

    def candidate(row: pd.Series) -> Candidate:
        return candidate_of(row, groups[int(row.name)], metric, results, store)

    first, equals = candidate(best), [candidate(row) for row in tied]
    cheapest = min([first, *equals], key=lambda each: (*each.flops, sign * each.mean)) if equals else first
    return Choice(
        metric,
        dict(constraints),
        cheapest,
        first,
        equals,
        len(rows),
        len(not_worse(best, others, values)) if others and values[best.name].count() > 1 else 0,
        left_out,
        confirmed,
        own_runs(cheapest, results) if confirmed else cheapest.rows,
    )


def is_tie(above: Sequence[float]) -> bool:
    """Whether a configuration that lies this far above the best one, by seed, can't be told from it.

    With fewer than two seeds in common nothing is known, and there is no reason to prefer it.
    """
    p = p_value(above)
    return p is not None and (p >= 1 - CONFIDENCE or sum(above) < 0)


def candidates(
    summary: pd.DataFrame, metric: str, constraints: Mapping[str, BoundConfig]
) -> tuple[pd.DataFrame, list[str]]:
    """Returns the rows of `summarise` that can be chosen, and sentences on those that can't.

    A configuration can be chosen if it finished with every seed, and with as many as any other one: a mean over fewer
    seeds varies more, so that the best of them would be luck.
    """
    ended = summary[["diverged", "pruned", "failed"]].sum(axis=1) > 0
    fewer = ~ended & (summary["finished"] < summary.loc[~ended, "finished"].max())
    unmeasured = ~ended & ~fewer & summary[metric].isna()
    whole = summary[~ended & ~fewer & ~unmeasured]
    outside = pd.Series([bool(broken(row, constraints)) for _, row in whole.iterrows()], whole.index, dtype=bool)
    found = {
        "diverged, failed or were stopped early": int(ended.sum()),
        "have fewer finished seeds than others": int(fewer.sum()),
        f"have no {metric}": int(unmeasured.sum()),
        f"violate {in_words(constraints)}": int(outside.sum()),
    }
    return whole[~outside], [f"{count} of {len(summary)} {why}" for why, count in found.items() if count]


def candidate_of(row: pd.Series, group: pd.DataFrame, metric: str, results: SweepResults, store: Store) -> Candidate:
    """Returns a row of `summarise` with its runs and its configuration."""
    runs = group[group["outcome"] == "finished"].sort_values("seed").to_dict("records")
    config = recorded_config(store, runs[0]["key"])
    drawn = [axis for axis in results.axes if not is_missing(runs[0].get(axis))]
    width = row[f"{metric}_ci"]
    return Candidate(
        {axis: plain(value_of(config, axis)) for axis in drawn},
        config,
        runs,
        float(row[metric]),
        None if pd.isna(width) else float(width),
    )


def is_missing(value: Any) -> bool:
    """Whether this value of an axis says that a search did not draw the parameter."""
    return isinstance(value, AxisValue) and value.value is NOT_DRAWN


def own_runs(winner: Candidate, results: SweepResults) -> list[dict[str, Any]]:
    """Returns the finished runs of a confirmed trial in the search itself."""
    trial = results.frame[results.frame["trial"] == winner.rows[0]["trial"]]
    return list(trial[trial["outcome"] == "finished"].sort_values("seed").to_dict("records"))
