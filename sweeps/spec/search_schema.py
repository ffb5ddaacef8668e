"""The `search:` section of a sweep YAML."""

import math
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, StrictBool, StrictFloat, StrictInt, model_validator

from ear.config.numbers import Count, NonNegative, Number, Whole
from ear.config.schema import Section
from sweeps.spec.metric import MetricName
from sweeps.spec.repeated import first_repeated


def _refuse_nested(value: Any) -> Any:
    if isinstance(value, list | dict):
        raise ValueError("a number, text, true, false or null is needed")
    return value


Scalar = Annotated[StrictBool | StrictInt | StrictFloat | str | None, BeforeValidator(_refuse_nested)]
WholeNumbers = tuple[Whole, Whole]  # named here: in Dimension, `int` is a field


class Dimension(Section):
    """What a parameter is drawn from: exactly one distribution."""

    uniform: tuple[Number, Number] | None = None
    """Evenly between two numbers."""
    log_uniform: tuple[Number, Number] | None = None
    """Evenly in the logarithm between two positive numbers."""
    int: WholeNumbers | None = None
    """Whole numbers, both ends included."""
    choice: Annotated[list[Scalar], Field(min_length=1)] | None = None
    """Any of these values."""
    when: dict[str, list[Scalar]] = {}
    """Drawn only where these parameters, named above it and each a choice, have one of these values."""

    @model_validator(mode="after")
    def _one_distribution(self) -> Self:
        given = [name for name in ("uniform", "log_uniform", "int", "choice") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError("give exactly one of uniform, log_uniform, int and choice")
        ends = self.uniform or self.log_uniform or self.int
        if ends is not None and not ends[0] < ends[1]:
            raise ValueError(f"{given[0]} needs its lower end first, and above it another one (given: {list(ends)})")
        if self.log_uniform is not None and self.log_uniform[0] <= 0:
            raise ValueError("log_uniform needs ends above 0")
        choices = self.choice or []
        if (place := first_repeated(choices)) is not None:
            value = choices[place]
            raise ValueError(f"choice has a value twice: {choices[choices.index(value)]!r} and {value!r}")
        return self

    @property
    def extremes(self) -> list[Any]:
        """The values that show whether all of them are valid."""
        if self.choice is not None:
            return list(self.choice)
        return list(self.uniform or self.log_uniform or self.int or ())

    def contains(self, value: Any) -> bool:
        if self.choice is not None:
            return value in self.choice
        low, high = self.extremes
        return isinstance(value, float if self.int is None else int) and bool(low <= value <= high)


class BoundConfig(Section):
    """A constraint on a metric."""

    at_least: Number | None = None
    at_most: Number | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.at_least is None and self.at_most is None:
            raise ValueError("give at_least or at_most")
        return self

    def violations(self, value: float) -> dict[str, float]:
        """By side, above 0 where the bound is not held, as Optuna wants it; 1 where there is no value."""
        sides = {}
        if self.at_least is not None:
            sides["at_least"] = self.at_least - value
        if self.at_most is not None:
            sides["at_most"] = value - self.at_most
        return {side: 1.0 if math.isnan(violation) else violation for side, violation in sides.items()}


class EarlyStoppingConfig(Section):
    """Stops trainings that fall behind."""

    name: Literal["asha", "median"] = "asha"
    """Asynchronous successive halving (Li et al. 2020), or worse than the median of earlier trials at that step."""
    every: Count
    """Steps between two looks."""
    metric: Literal["fid", "loss"] = "fid"
    """What is looked at; a loss only where the space leaves alone what it means."""
    images: Annotated[Count, Field(ge=20)] = 500
    """Images that such a FID is measured on."""
    reduction_factor: Annotated[Count, Field(ge=2)] = 3
    """asha: one in so many goes on from each rung; rungs are `every` times powers of it."""
    startup_trials: Count = 5
    """median: trials that are all finished before any is stopped."""


class ConfirmationConfig(Section):
    """How the best are measured again at the end, free of the luck that made them the best: winner and runner-up, or
    with several objectives up to eight members of the Pareto front."""

    seeds: Annotated[Count, Field(le=1000)] = 3
    """Fresh seeds of training, all evaluated with one noise that the search has not used."""
    images: Annotated[Count, Field(ge=20)] | None = None
    """Images with class labels; twice as many as in the search where not given."""


class SearchConfig(Section):
    sampler: Literal["random", "tpe", "gp", "nsga2"] = "tpe"
    """Optuna's: tree-structured Parzen estimator, Gaussian process, genetic algorithm."""
    trials: Count
    """Points to propose, each trained once with each seed."""
    seed: NonNegative = 0
    """Of the proposals."""
    space: Annotated[dict[str, Dimension], Field(min_length=1)]
    """Dotted parameter -> what it is drawn from."""
    objectives: Annotated[list[MetricName], Field(min_length=1)] | None = None
    """Metrics; several give a Pareto front. The sweep's `metric` where not given."""
    constraints: dict[MetricName, BoundConfig] = {}
    """Metric -> bound; points outside never win."""
    start: list[dict[str, Scalar]] = []
    """Points to begin with; what is left out is the base's, so `{}` is the base itself."""
    evaluations: NonNegative = 0
    """Further values of the evaluation-only parameters that each trained model is tried with; trials of their own."""
    early_stopping: EarlyStoppingConfig | None = None
    confirmation: ConfirmationConfig | None = ConfirmationConfig()

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        names = list(self.space)
        for name, dimension in self.space.items():
            for other, values in dimension.when.items():
                if other not in names[: names.index(name)] or self.space[other].choice is None:
                    raise ValueError(f"space: {name}: when: {other} is no choice that stands above it")
                if unknown := [value for value in values if value not in (self.space[other].choice or ())]:
                    raise ValueError(f"space: {name}: when: {other} is never {unknown[0]!r}")
        return self

    def identity(self) -> dict[str, Any]:
        """What makes a study one and the same: everything that its proposals and values depend on."""
        return self.model_dump(mode="json", exclude={"trials", "confirmation"})
