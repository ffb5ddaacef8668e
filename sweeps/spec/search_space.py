"""Checks the space of a search against the schema, and draws points from it."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ear.config.reach import parameter_reach
from ear.errors import UserError
from sweeps.spec.configurations import Configurations
from sweeps.spec.schema import SweepConfig
from sweeps.spec.search_schema import SearchConfig

if TYPE_CHECKING:
    import optuna

MAX_INVALID_DRAWS = 100  # consecutive draws that make no valid configuration


def check_search(sweep: SweepConfig, configurations: Configurations, source: Path) -> None:
    """Checks that a search's space, starting points and early stopping are valid.

    Raises:
        UserError: a parameter is unknown, can't be searched or leaves its range; a starting point is outside the space;
            or early stopping would compare losses that mean different things.
    """
    search = sweep.search
    assert search is not None
    for parameter, dimension in search.space.items():
        for value in dimension.extremes:
            configurations.check({parameter: value}, f"search: space: {parameter}")
        reach = parameter_reach(parameter, configurations.base)
        if parameter == "seed":
            raise UserError(f"{source}: search: space: seed can't be searched; list the seeds under `seeds`.")
        stopping = search.early_stopping
        if stopping is not None and stopping.metric == "loss" and reach.defines_loss:
            raise UserError(
                f"{source}: search: early_stopping: {parameter} changes what the training loss measures, so losses of "
                "different points can't be compared; use metric: fid."
            )
    if search.evaluations and not evaluation_only(search, configurations):
        raise UserError(
            f"{source}: search: evaluations: no parameter of the space is evaluation-only (sampling.*), "
            "so there is nothing more to evaluate on a trained model; remove `evaluations`."
        )
    for number, point in enumerate(search.start):
        try:
            configurations.run(starting_point(search, point, configurations), 0)
        except UserError as error:
            raise UserError(f"{source}: search: start: point {number + 1}: {error}") from error
    try:
        random_points(search, configurations, 1)
    except UserError as error:
        raise UserError(f"{source}: search: space: {error}") from error


def random_points(search: SearchConfig, configurations: Configurations, count: int) -> list[dict[str, Any]]:
    """Draws `count` random points that are valid configurations.

    Raises:
        UserError: `MAX_INVALID_DRAWS` consecutive draws were not valid.
    """
    import optuna  # imported here: it takes a second, and only searches need it

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(search.seed % 2**32))
    points: list[dict[str, Any]] = []
    in_vain = 0
    while len(points) < count:
        point = draw(search, study.ask())
        try:
            configurations.run(point, 0)
        except UserError as error:
            in_vain += 1
            if in_vain == MAX_INVALID_DRAWS:
                raise UserError(
                    f"none of {in_vain} consecutive random points is valid; the error of the last one: {error}"
                ) from error
            continue
        in_vain = 0
        points.append(point)
    return points


def starting_point(search: SearchConfig, point: Mapping[str, Any], configurations: Configurations) -> dict[str, Any]:
    """Completes a starting point with the base's values for all parameters that apply.

    Raises:
        UserError: a parameter is not in the space, or a value is outside it.
    """
    if unknown := [name for name in point if name not in search.space]:
        raise UserError(f"{unknown[0]} is not in the space.")
    values: dict[str, Any] = {}
    for name, dimension in search.space.items():
        if not applies(search, name, values):
            continue
        value = point[name] if name in point else configurations.value(name)
        if dimension.int is None and dimension.choice is None and type(value) is int:  # but not true
            value = float(value)
        if not dimension.contains(value):
            raise UserError(f"{name} = {value!r} is not in the space.")
        values[name] = value
    return values


def applies(search: SearchConfig, name: str, values: Mapping[str, Any]) -> bool:
    """Whether a parameter is drawn, given the values of those above it."""
    return all(other in values and values[other] in wanted for other, wanted in search.space[name].when.items())


def evaluation_only(search: SearchConfig, configurations: Configurations) -> list[str]:
    """Returns the parameters that need no training."""
    return [name for name in search.space if not parameter_reach(name, configurations.base).needs_training]


def draw(search: SearchConfig, trial: "optuna.Trial") -> dict[str, Any]:
    """Draws a value for every parameter that applies; values that the trial already has stay."""
    values: dict[str, Any] = {}
    for name, dimension in search.space.items():
        if not applies(search, name, values):
            continue
        if dimension.choice is not None:
            values[name] = trial.suggest_categorical(name, dimension.choice)
        elif dimension.int is not None:
            values[name] = trial.suggest_int(name, *dimension.int)
        else:
            low, high = dimension.uniform or dimension.log_uniform or (0.0, 0.0)
            values[name] = trial.suggest_float(name, low, high, log=dimension.log_uniform is not None)
    return values
