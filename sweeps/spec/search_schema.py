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
        raise ValueError("must be a number, text, true, false or null")
    return value


Scalar = Annotated[StrictBool | StrictInt | StrictFloat | str | None, BeforeValidator(_refuse_nested)]
WholeNumbers = tuple[Whole, Whole]  # named here: in Dimension, `int` is a field


class Dimension(Section):
    """The distribution that a parameter is drawn from; exactly one is given."""

    uniform: tuple[Number, Number] | None = None
    """Uniform between two numbers."""
    log_uniform: tuple[Number, Number] | None = None
    """Uniform in the logarithm between two positive numbers."""
    int: WholeNumbers | None = None
    """Uniform over integers, both ends included."""
    choice: Annotated[list[Scalar], Field(min_length=1)] | None = None
    """One of these values."""
    when: dict[str, list[Scalar]] = {}
    """Conditions: draw only if these parameters (each a `choice` listed above this one) have one of these values."""

    @model_validator(mode="after")
    def _one_distribution(self) -> Self:
        given = [name for name in ("uniform", "log_uniform", "int", "choice") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError("give exactly one of uniform, log_uniform, int and choice")
        ends = self.uniform or self.log_uniform or self.int
        if ends is not None and not ends[0] < ends[1]:
            raise ValueError(f"{given[0]} needs a lower end and then a larger upper end (given: {list(ends)})")
        if self.log_uniform is not None and self.log_uniform[0] <= 0:
            raise ValueError("log_uniform needs both ends above 0")
        choices = self.choice or []
        if (repeated := first_repeated(choices)) is not None:
            value = choices[repeated]
            raise ValueError(f"choice has a duplicate value: {choices[choices.index(value)]!r} and {value!r}")
        return self

    @property
    def extremes(self) -> list[Any]:
        """All choices, or both ends of a range: if these are valid, every value is."""
        if self.choice is not None:
            return list(self.choice)
        return list(self.uniform or self.log_uniform or self.int or ())

    def contains(self, value: Any) -> bool:
        """Whether the distribution can yield this value."""
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
        """Returns the violation of each side, in Optuna's convention: above 0 if violated; 1 if the value is NaN."""
        sides = {}
        if self.at_least is not None:
            sides["at_least"] = self.at_least - value
        if self.at_most is not None:
            sides["at_most"] = value - self.at_most
        return {side: 1.0 if math.isnan(violation) else violation for side, violation in sides.items()}


class EarlyStoppingConfig(Section):
    """Stops unpromising trainings early."""

    name: Literal["asha", "median"] = "asha"
    """`asha`: asynchronous successive halving (Li et al. 2020). `median`: stop below the median of earlier trials."""
    every: Count
    """Training steps between two measurements."""
    metric: Literal["fid", "loss"] = "fid"
    """What is measured; `loss` only if no parameter of the space changes its meaning."""
    images: Annotated[Count, Field(ge=20)] = 500
    """Generated images per intermediate FID."""
    reduction_factor: Annotated[Count, Field(ge=2)] = 3
    """asha: the share of trials promoted at each rung is 1 / reduction_factor; rungs are `every` times its powers."""
    startup_trials: Count = 5
    """median: trainings that finish before any is stopped."""


class ConfirmationConfig(Section):
    """Retrains and re-evaluates the best configurations with fresh seeds, to remove the selection bias of the search:
    winner and runner-up, or with several objectives up to eight members of the Pareto front."""

    seeds: Annotated[Count, Field(le=1000)] = 3
    """Number of fresh training seeds; all are evaluated with one evaluation seed that the search has not used."""
    images: Annotated[Count, Field(ge=20)] | None = None
    """Generated images with class labels; by default twice as many as in the search."""


class SearchConfig(Section):
    """The `search:` section: a space, a sampler and a budget of trials."""

    sampler: Literal["random", "tpe", "gp", "nsga2"] = "tpe"
    """Optuna's sampler: random, tree-structured Parzen estimator, Gaussian process, or genetic algorithm."""
    trials: Count
    """Number of proposed points, each trained once with each seed."""
    seed: NonNegative = 0
    """Seed of the sampler."""
    space: Annotated[dict[str, Dimension], Field(min_length=1)]
    """Dotted parameter -> the distribution that it is drawn from."""
    objectives: Annotated[list[MetricName], Field(min_length=1)] | None = None
    """Metrics to optimise; several give a Pareto front. By default the sweep's `metric`."""
    constraints: dict[MetricName, BoundConfig] = {}
    """Metric -> bound; a point that violates one never wins."""
    start: list[dict[str, Scalar]] = []
    """Points to try first; missing parameters have the base's values, so `{}` is the base itself."""
    evaluations: NonNegative = 0
    """Further evaluations of each trained model with other evaluation-only parameters; each is a trial of its own."""
    early_stopping: EarlyStoppingConfig | None = None
    confirmation: ConfirmationConfig | None = ConfirmationConfig()

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        names = list(self.space)
        for name, dimension in self.space.items():
            for other, values in dimension.when.items():
                if other not in names[: names.index(name)] or self.space[other].choice is None:
                    raise ValueError(f"space: {name}: when: {other} must be a `choice` listed above {name}")
                if unknown := [value for value in values if value not in (self.space[other].choice or ())]:
                    raise ValueError(f"space: {name}: when: {other} is never {unknown[0]!r}")
        return self

    def identity(self) -> dict[str, Any]:
        """Returns the settings that identify a study: all that its proposals and values depend on."""
        return self.model_dump(mode="json", exclude={"trials", "confirmation"})
