"""Refuses parameters that are valid by themselves but make no sense as axes or in combination."""

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

SET_ELSEWHERE = {"seed": "list it under `seeds`", "execution.threads": "`resources.cpus` says how many a trial has"}
MEASUREMENT_FIELDS = (
    "extractor",
    "reference",
)  # fields of `evaluation` that change what a metric of the same name means


def refuse_overlaps(sweep: SweepConfig, base: RunConfig, path: Path) -> None:
    """Refuses two parameters of which one would overwrite the other.

    Allowed are axes inside a section that `set` gives as a whole, and in a search `set` for a parameter of the space:
    it applies where the parameter is not drawn.

    Raises:
        UserError: two parameters overlap; the message names both.
    """
    axes = sweep.search.space if sweep.search else sweep.space
    for where, parameters in (("set", sweep.set), ("search: space" if sweep.search else "space", axes)):
        from_outside = sorted(parameters, key=lambda parameter: len(_place(parameter, base)))
        for outer, inner in itertools.combinations(from_outside, 2):
            if _place(outer, base) == _place(inner, base):
                raise UserError(f"{path}: {where}: {outer} and {inner} are the same parameter; remove one of them.")
            if _lies_in(inner, outer, base):
                raise UserError(
                    f"{path}: {where}: {inner} is part of {outer}, so one overwrites the other; remove one of them."
                )
    for parameter in sweep.set:
        if parameter in SET_ELSEWHERE:
            raise UserError(f"{path}: set: {parameter} has no effect here: {SET_ELSEWHERE[parameter]}.")
        for axis in () if sweep.search else axes:
            if _lies_in(parameter, axis, base):
                raise UserError(f"{path}: set: the axis {axis} replaces {parameter} in all runs; remove it from `set`.")


def _lies_in(inner: str, outer: str, base: RunConfig) -> bool:
    place = _place(outer, base)
    return _place(inner, base)[: len(place)] == place


def _place(parameter: str, base: RunConfig) -> tuple[str | int, ...]:
    """The parts of a dotted parameter, with list indices counted from the start of the list."""
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
    """Refuses axes that are valid parameters but make no sense as axes.

    Raises:
        UserError: an axis changes no result, or changes what results are compared with.
    """
    data = configurations.base.data
    cache = data.latents if isinstance(data, ImageFolderData) else None
    where = "search: space" if sweep.search else "space"
    for parameter in sweep.search.space if sweep.search else sweep.space:
        section = parameter.split(".")[0]
        if _reach_or_none(parameter, configurations) is Reach.NOTHING:
            raise UserError(
                f"{path}: {where}: {parameter} controls how or where a run executes and changes no result; "
                "move it to `set`."
            )
        if cache is not None and section == "tokenizer":
            raise UserError(
                f"{path}: {where}: {parameter} changes the latents, but all runs would read the same cache, "
                f"{cache}; encode a cache for each value, and run a separate sweep for each with `set`."
            )
        if section == "data":
            raise UserError(
                f"{path}: {where}: {parameter} changes the reference images, so its values can't be ranked; "
                "run a separate sweep for each value with `set`."
            )
        if section == "evaluation" and sweep.search:
            raise UserError(
                f"{path}: {where}: {parameter} changes what is measured, so a search would pick the most lenient "
                "measurement; move it to `set`."
            )


def refuse_measures(runs: Iterable[PlannedRun], axes: Iterable[str], path: Path) -> None:
    """Refuses a grid whose runs would be measured against different images or with different networks.

    Raises:
        UserError: an axis varies the reference or the extractor.
    """
    evaluations = [run.config.evaluation for run in runs]
    for field in MEASUREMENT_FIELDS:
        if len({getattr(evaluation, field) for evaluation in evaluations}) > 1:
            axis = next(each for each in axes if each in ("evaluation", f"evaluation.{field}"))
            raise UserError(
                f"{path}: space: {axis} varies how results are measured ({field}), so its values can't be ranked; "
                "run a separate sweep for each value with `set`: the sweeps share their trainings."
            )


def _reach_or_none(parameter: str, configurations: Configurations) -> Reach | None:
    try:
        return parameter_reach(parameter, configurations.base).reach
    except UserError:
        return None  # unknown: validation reports it with the nearest valid name
