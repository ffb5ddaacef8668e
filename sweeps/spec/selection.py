"""Selects a part of a grid: `--only scoring.alpha=1.0`."""

from collections.abc import Sequence
from typing import Any

from ear.config.loading import did_you_mean
from ear.config.yaml_text import parse_yaml
from ear.errors import UserError, shortened
from sweeps.spec.naming import shown
from sweeps.spec.runs import PlannedRun


def selected(runs: Sequence[PlannedRun], only: Sequence[str]) -> tuple[PlannedRun, ...]:
    """Returns the runs of a grid that have these values, in their order; all runs if `only` is empty.

    Args:
        only: each `parameter=value`, with an axis of the grid (its dotted or its short name) or `seed`. Several values
            of one parameter select the runs with any of them; several parameters, the runs that match each.

    Raises:
        UserError: one does not have that form, or its axis or value is not in the grid.
    """
    wanted: dict[str, list[Any]] = {}
    for text in only:
        source = f"--only {shortened(text)}"
        name, separator, value = text.partition("=")
        if not separator:
            raise UserError(f"{source}: write it as axis=value, for example scoring.alpha=1.25.")
        axis = _axis(runs[0], name.strip(), source)
        values = list({shown(_value(run, axis)): _value(run, axis) for run in runs}.values())
        given = parse_yaml(value, source)
        if not any(_equal(given, each) for each in values):
            raise UserError(f"{source}: the grid has no such value; {axis} is {', '.join(map(shown, values))}.")
        wanted.setdefault(axis, []).append(given)
    return tuple(
        run
        for run in runs
        if all(any(_equal(value, _value(run, axis)) for value in values) for axis, values in wanted.items())
    )


def _axis(run: PlannedRun, name: str, source: str) -> str:
    short = {run.names[parameter]: parameter for parameter in run.parameters}
    if name == "seed" or name in run.parameters:
        return name
    if name in short:
        return short[name]
    axes = [*run.parameters, "seed"]
    raise UserError(f"{source}: the grid has no axis {name!r}{did_you_mean(name, axes)}: it has {', '.join(axes)}.")


def _value(run: PlannedRun, axis: str) -> Any:
    return run.seed if axis == "seed" else run.parameters[axis]


def _equal(given: Any, value: Any) -> bool:
    """Whether a value as it was typed is a validated one: 1 is 1.0, but true is not 1."""
    return bool(given == value) and isinstance(given, bool) == isinstance(value, bool)
