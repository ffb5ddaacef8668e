"""Parameters that are valid one by one, and make no sense as axes or beside one another."""

import itertools
from collections.abc import Iterable
from pathlib import Path

from ear.config import RunConfig
from ear.config.loading import INDEX
from ear.config.reach import parameter_reach
from ear.config.schema import ImageFolderData, Reach
from ear.errors import UserError
from sweeps.spec.configurations import Configurations
from sweeps.spec.runs import PlannedRun
from sweeps.spec.schema import SweepConfig

ELSEWHERE = {"seed": "list it under `seeds`", "execution.threads": "`resources.cpus` says how many a trial has"}
MEASURES = ("extractor", "reference")  # fields of `evaluation` that make another metric of the same name


def refuse_overlaps(sweep: SweepConfig, base: RunConfig, path: Path) -> None:
    """Parameters of which one would undo the other.

    What `set` gives a whole section, axes may still vary in it; and a search falls back on `set` where a parameter is
    not drawn.

    Raises:
        UserError: naming the two.
    """
    axes = sweep.search.space if sweep.search else sweep.space
    for where, parameters in (("set", sweep.set), ("search: space" if sweep.search else "space", axes)):
        from_outside = sorted(parameters, key=lambda parameter: len(_place(parameter, base)))
        for outer, inner in itertools.combinations(from_outside, 2):
            if _place(outer, base) == _place(inner, base):
                raise UserError(f"{path}: {where}: {outer} and {inner} are the same parameter; take one of them out.")
            if _lies_in(inner, outer, base):
                raise UserError(
                    f"{path}: {where}: {inner} lies in {outer}, so that one undoes the other; take one of them out."
                )
    for parameter in sweep.set:
        if parameter in ELSEWHERE:
            raise UserError(f"{path}: set: {parameter} has no effect here: {ELSEWHERE[parameter]}.")
        for axis in () if sweep.search else axes:
            if _lies_in(parameter, axis, base):
                raise UserError(f"{path}: set: the axis {axis} replaces {parameter} in all runs; take it out of `set`.")


def _lies_in(inner: str, outer: str, base: RunConfig) -> bool:
    place = _place(outer, base)
    return _place(inner, base)[: len(place)] == place


def _place(parameter: str, base: RunConfig) -> tuple[str | int, ...]:
    """The parts of a dotted parameter, the entries of lists counted from their beginning."""
    place: list[str | int] = []
    found: object = base
    for part in parameter.split("."):
        if isinstance(found, tuple) and INDEX.fullmatch(part):
            index = int(part)
            place.append(index + len(found) if index < 0 else index)
            found = found[index] if -len(found) <= index < len(found) else None
        else:
            place.append(part)
            found = getattr(found, part, None)
    return tuple(place)


def refuse_axes(sweep: SweepConfig, configurations: Configurations, path: Path) -> None:
    """Axes that are valid parameters and make no sense as axes.

    Raises:
        UserError: one of them is there.
    """
    data = configurations.base.data
    cache = data.latents if isinstance(data, ImageFolderData) else None
    where = "search: space" if sweep.search else "space"
    for parameter in sweep.search.space if sweep.search else sweep.space:
        section = parameter.split(".")[0]
        if _reach_or_none(parameter, configurations) is Reach.NOTHING:
            raise UserError(
                f"{path}: {where}: {parameter} says how or where a run is carried out and changes no result; "
                "put it under `set`."
            )
        if cache is not None and section == "tokenizer":
            raise UserError(
                f"{path}: {where}: {parameter} changes the latents, but all runs would read the same cache, "
                f"{cache}; encode one for each value and sweep them one by one with `set`."
            )
        if section == "data":
            raise UserError(
                f"{path}: {where}: {parameter} changes the images that are compared with, so that no two values can be "
                "ranked; make a sweep of each with `set`."
            )
        if section == "evaluation" and sweep.search:
            raise UserError(
                f"{path}: {where}: {parameter} changes what is measured, and a search would choose what is measured "
                "most kindly; put it under `set`."
            )


def refuse_measures(runs: Iterable[PlannedRun], axes: Iterable[str], path: Path) -> None:
    """
    Raises:
        UserError: the runs of a grid would be measured against different images, or with different networks.
    """
    evaluations = [run.config.evaluation for run in runs]
    for field in MEASURES:
        if len({getattr(evaluation, field) for evaluation in evaluations}) > 1:
            axis = next(each for each in axes if each in ("evaluation", f"evaluation.{field}"))
            raise UserError(
                f"{path}: space: {axis} varies what results are measured with ({field}), so that no two values can be "
                "ranked; make a sweep of each with `set`: they share their trainings."
            )


def _reach_or_none(parameter: str, configurations: Configurations) -> Reach | None:
    try:
        return parameter_reach(parameter, configurations.base).reach
    except UserError:
        return None  # unknown: validation says so, with the nearest valid name
