"""What our runs measured for a claim: the numbers of each of its sides, by seed."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd

from analysis.axis_values import AxisValue
from analysis.conditions import differing
from analysis.notation import symbol
from analysis.paper.claims import HIGHER_IS_BETTER, Place
from analysis.paper.suite import command, name_on, on, plan_on, suite_files
from analysis.results import SweepResults, load_results
from analysis.sound_results import refuse_removed
from ear.errors import UserError
from ear.evaluation.result import load_evaluation
from ear.store import Store
from ear.store.outdated import refuse_outdated
from sweeps.spec.confidence import half_width
from sweeps.spec.naming import shown
from sweeps.views.list_view import listed_sweeps

Values = Callable[[pd.DataFrame], "pd.Series[float]"]  # finished runs -> one number each


class NotTestedError(Exception):
    """Raised when the runs that a claim needs are not there; the message says what to do."""


@dataclass(frozen=True)
class Side:
    """One side of a comparison: what its runs measured."""

    label: str
    values: dict[int, float]  # by seed
    ends: dict[str, int]  # outcome -> runs
    keys: tuple[str, ...]  # store keys that the numbers rest on
    diverged_at: int | None = None  # the earliest step

    @property
    def mean(self) -> float | None:
        """The mean over seeds; None without any."""
        return fmean(self.values.values()) if self.values else None

    @property
    def half_width(self) -> float | None:
        """Half of the 95% interval of the mean; None for fewer than two seeds."""
        return half_width(list(self.values.values()))


@dataclass(frozen=True)
class Evidence:
    """The results of the suite's sweeps on one base."""

    base: str
    root: Path
    results: Mapping[str, SweepResults]  # by the sweep's name in sweeps/paper/
    missing: Mapping[str, str]  # sweep -> why it has no results, and what to do
    spaces: Mapping[str, Mapping[str, Sequence[Any]]]  # sweep -> axis -> all its values, of those with results

    @cached_property
    def store(self) -> Store:
        """The store, for reading."""
        return Store(self.root, reading=True)

    def sweep(self, name: str) -> SweepResults:
        """Returns a sweep's results.

        Raises:
            NotTestedError: there are none.
        """
        if name not in self.results:
            raise NotTestedError(self.missing.get(name) or why_missing(name, self.base))
        return self.results[name]

    def side(self, label: str, place: Place, values: Values, higher: bool = False) -> Side:
        """Returns the runs of a place, with the best of the tuned ones for each seed.

        Raises:
            NotTestedError: there are none.
        """
        results = self.sweep(place.sweep)
        require_placed(results, place)
        rows = at(results.frame, place.at)
        if rows.empty:
            where = ", ".join(f"{symbol(axis, results.axes)} {shown(value)}" for axis, value in place.at.items())
            raise NotTestedError(f"no run of {results.name} has ended at {where}: {command(place.sweep, self.base)}")
        finished = rows[rows["outcome"] == "finished"]
        numbers = values(finished).dropna().groupby(finished["seed"])
        best = numbers.max() if higher else numbers.min()
        # The best of fewer settings would be another quantity.
        complete = numbers.count() == math.prod(len(self.spaces[place.sweep][axis]) for axis in place.tuned)
        return Side(
            label,
            {int(seed): float(value) for seed, value in best[complete].items()},
            {str(outcome): int(count) for outcome, count in rows["outcome"].value_counts().sort_index().items()},
            tuple(sorted({key for keys in rows["rests_on"] for key in keys})),
            int(rows["diverged_at"].min()) if rows["diverged_at"].notna().any() else None,
        )

    def measured(self, label: str, place: Place, metric: str) -> Side:
        """Returns a metric's values at a place.

        Raises:
            NotTestedError: no run has ended there.
        """
        return self.side(label, place, lambda rows: rows[metric].astype(float), higher=metric in HIGHER_IS_BETTER)

    def along(self, place: Place, axis: str, metric: str, labels: Sequence[str] = ()) -> list[tuple[Any, Side]]:
        """Returns each value of an axis, in ascending order, with its side.

        Raises:
            NotTestedError: no run has ended there.
        """
        results = self.sweep(place.sweep)
        require_placed(results, moved(place, axis, None))
        values = sorted(set(at(results.frame, place.at)[axis]))
        if len(values) < (planned := len(self.spaces[place.sweep][axis])):
            raise NotTestedError(
                f"{len(values)} of {planned} values of {axis} have run in {results.name}: "
                f"{command(place.sweep, self.base)}"
            )
        if len(labels) != len(values):
            labels = [f"{symbol(axis, results.axes)} {shown(plain(value))}" for value in values]
        return [
            (plain(value), self.measured(label, moved(place, axis, plain(value)), metric))
            for label, value in zip(labels, values, strict=True)
        ]

    def seconds_an_image(self, rows: pd.DataFrame) -> "pd.Series[float]":
        """Returns the seconds of sampling and measuring an image in each run, as its evaluation recorded them."""
        found = []
        for key in rows["key"]:
            evaluation = load_evaluation(key, self.store)
            found.append(evaluation.seconds / (evaluation.images + evaluation.null_images))
        return pd.Series(found, index=rows.index, dtype=float)

    def require_same_machine(self, sides: Sequence[Side]) -> None:
        """Checks that times were measured on machines of one kind.

        Raises:
            NotTestedError: they were not.
        """
        made_on = [self.store.entry(key).provenance for side in sides for key in side.keys]
        for part in ("processor", "accelerator"):
            if len(kinds := sorted({str(each.get(part)) for each in made_on})) > 1:
                raise NotTestedError(f"the times are of machines of different kinds: {', '.join(kinds)}")

    def require_measured_alike(self, sweeps: Sequence[str]) -> None:
        """Checks that sweeps were measured under the same conditions.

        Raises:
            NotTestedError: they were not.
        """
        found = [self.sweep(name) for name in sweeps]
        if apart := differing([conditions for results in found for conditions in results.conditions]):
            raise NotTestedError(f"{' and '.join(each.name for each in found)} differ in {' and '.join(apart)}")


def moved(place: Place, axis: str, value: Any) -> Place:
    """Returns the place at a value of another axis."""
    return Place(sweep=place.sweep, at={**place.at, axis: value}, tuned=place.tuned)


def at(frame: pd.DataFrame, values: Mapping[str, Any]) -> pd.DataFrame:
    """Returns the runs with these values of axes."""
    for axis, value in values.items():
        frame = frame[frame[axis].map(plain).map(lambda found, value=value: found == value).astype(bool)]
    return frame


def plain(value: Any) -> Any:
    """Returns an axis' value as in the YAML."""
    return value.value if isinstance(value, AxisValue) else value


def require_placed(results: SweepResults, place: Place) -> None:
    """Checks that a claim says for each axis of a sweep which value it means.

    Raises:
        NotTestedError: the sweep that ran has other axes than the suite's.
    """
    if set(results.axes) != {*place.at, *place.tuned}:
        raise NotTestedError(
            f"{results.name} ran over {', '.join(results.axes)}, and the claim is about "
            f"{', '.join([*place.at, *place.tuned])}"
        )


def load_evidence(sweeps: Sequence[str], base: str, root: Path) -> Evidence:
    """Loads the results of these sweeps on a base, those that there are.

    Raises:
        UserError: none of them has run below this root, or none can be read.
    """
    results: dict[str, SweepResults] = {}
    spaces: dict[str, dict[str, list[Any]]] = {}
    missing, unread = {}, ""
    known = {sweep.name for sweep in listed_sweeps(root)} & {name_on(sweep, base) for sweep in sweeps}
    if not known:
        raise UserError(
            f"No sweep of the paper's suite on {base} has run in {root}: start with `ear paper run{on(base)}`."
        )
    for sweep in sweeps:
        if (name := name_on(sweep, base)) not in known:
            missing[sweep] = why_missing(sweep, base)
            continue
        try:
            results[sweep] = checked(load_results(name, root), sweep, base, root)
            spaces[sweep] = plan_on(sweep, base).sweep.space
        except NotTestedError as error:
            missing[sweep] = str(error)
        except UserError as error:  # no run has ended yet, results were damaged, or MLflow is down
            missing[sweep] = unread = str(error)
    if unread and not results:
        raise UserError(unread)
    return Evidence(base, root, results, missing, spaces)


def checked(results: SweepResults, sweep: str, base: str, root: Path) -> SweepResults:
    """Returns the results if they are of the suite's sweep and still hold.

    Raises:
        NotTestedError: another sweep ran under this name.
        UserError: they are outdated, or were damaged.
    """
    store = Store(root, reading=True)
    refuse_outdated(store, results.rests_on)
    refuse_removed(store, results)
    seeds = sorted({int(seed) for seed in results.frame["seed"]})
    planned = {run.keys.evaluation for run in plan_on(sweep, base, seeds).runs}
    if not planned.issuperset(results.frame["key"]):
        raise NotTestedError(f"{results.name} ran last with other settings than the suite's: {command(sweep, base)}")
    return results


def why_missing(sweep: str, base: str) -> str:
    """Returns why a sweep has no results, and what to do."""
    if sweep not in suite_files():
        return f"no sweep tests it yet: add sweeps/paper/{sweep}.yaml"
    return command(sweep, base)
