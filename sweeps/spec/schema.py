"""The schema of a sweep YAML."""

import math
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from ear.config.numbers import Count, NonNegative, Number, Parallel
from ear.config.schema import Section
from ear.errors import shortened
from sweeps.spec.metric import MetricConfig, MetricName
from sweeps.spec.naming import is_reserved
from sweeps.spec.repeated import first_repeated
from sweeps.spec.search_schema import SearchConfig

MOST_RUNS = 100_000  # of a grid, all planned before anything starts: so many take two gigabytes and a minute or two
MOST_SHOWN = 8  # axes in a message


def _differ(seeds: list[int]) -> list[int]:
    if len(set(seeds)) < len(seeds):
        raise ValueError("a seed stands there twice")
    return seeds


Seed = Annotated[NonNegative, Field(le=2**62)]
"""Half of what a run may have: a search's confirmation takes fresh ones above it."""
Seeds = Annotated[list[Seed], Field(min_length=1), AfterValidator(_differ)]


class ResourcesConfig(Section):
    """What one trial gets."""

    cpus: Annotated[Parallel, Field(gt=0)] = 1
    """CPUs, which are also torch's threads; several processes of a trial share them."""
    gpus: Annotated[Number, Field(ge=0, le=1024)] = 0
    """GPUs, all of one node. Below 1, trials share one; with 2 or more, a trial has a process for each."""

    @field_validator("gpus")
    @classmethod
    def _whole_from_one_on(cls, gpus: float) -> float:
        if gpus > 1 and not gpus.is_integer():
            raise ValueError("below 1 a fraction shares a GPU, from 1 on a trial has whole GPUs")
        return gpus

    @property
    def processes(self) -> int:
        """That a trial consists of."""
        return max(1, int(self.gpus))


class BaseConfig(Section):
    """What a sweep does otherwise on one of its other bases."""

    set: dict[str, Any] = {}
    """Dotted parameters, added to the sweep's own `set`."""
    seeds: Seeds | None = None
    resources: ResourcesConfig | None = None


class SweepConfig(Section):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
    """Names the sweep in MLflow and the report's folder: letters, digits, '_', '-' and '.'."""
    base: str = "digits"
    """A shipped configuration, or a YAML file beside this one."""
    set: dict[str, Any] = {}
    """Dotted parameters that differ from the base in every run."""
    space: dict[str, list[Any]] = {}
    """Dotted parameter -> its values; the sweep is the grid of all combinations. Or `search`."""
    search: SearchConfig | None = None
    """Points of a space that Optuna proposes one after another, instead of a grid."""
    seeds: Seeds = [0]
    """Every combination is run once with each seed; those that differ in evaluation only share a training."""
    metric: MetricConfig = MetricConfig()
    resources: ResourcesConfig = ResourcesConfig()
    concurrency: Count | None = None
    """Trials at a time; as many as the machine's CPUs and GPUs allow where this is left out."""
    retries: NonNegative = 2
    """How often a task that fails is tried again, from its last checkpoint, before it counts as failed."""
    bases: dict[str, BaseConfig] = {}
    """Other bases by name, for `--base`."""

    @field_validator("name")
    @classmethod
    def _is_free(cls, name: str) -> str:
        if is_reserved(name):
            raise ValueError(f"the program's own files have this name; give the sweep another (say, sweep-{name})")
        return name

    @field_validator("space")
    @classmethod
    def _axes_vary(cls, space: dict[str, list[Any]]) -> dict[str, list[Any]]:
        for parameter, values in space.items():
            if not values:
                raise ValueError(f"the axis {parameter} is empty; give it at least one value")
            if (repeated := first_repeated(values)) is not None:
                raise ValueError(f"the axis {parameter} has {shortened(repr(values[repeated]))} twice")
            section = parameter.split(".")[0]
            if section == "seed":
                raise ValueError("seed is no axis; list the seeds under `seeds`, so that tables average over them")
        return space

    @model_validator(mode="after")
    def _is_countable(self) -> Self:
        axes = [len(values) for values in self.space.values()]
        if self.space and math.prod([*axes, len(self.seeds)]) > MOST_RUNS:
            counted = " x ".join(f"{size:,}" for size in axes[:MOST_SHOWN])
            more = f" and {len(axes) - MOST_SHOWN} more axes" if len(axes) > MOST_SHOWN else ""
            raise ValueError(
                f"space: a grid of {counted}{more}, each point with {len(self.seeds):,} seeds, has more than "
                f"{MOST_RUNS:,} runs; take values out, or let `search` choose among them"
            )
        return self

    @model_validator(mode="after")
    def _grid_or_search(self) -> Self:
        if bool(self.space) == (self.search is not None):
            raise ValueError("give either `space`, for a grid, or `search`")
        return self

    @model_validator(mode="after")
    def _stopped_by_what_counts(self) -> Self:
        if self.search is None or self.search.early_stopping is None:
            return self
        if len(self.objectives) > 1:
            raise ValueError("search: early_stopping needs a single objective")
        if self.objective not in ("fid", "fid_null"):
            raise ValueError(
                "search: early_stopping goes by what is better when lower: the objective must be fid or fid_null, "
                f"not {self.objective}"
            )
        return self

    @property
    def objectives(self) -> list[MetricName]:
        """What is optimised; a grid is ranked by it."""
        return list((self.search.objectives if self.search else None) or [self.metric.name])

    @property
    def objective(self) -> MetricName:
        """The metric that decides."""
        return self.objectives[0]

    def on(self, base: str) -> Self:
        """The sweep on another base, under another name."""
        # A job reads a copy of the base, elsewhere: so a file is known by its name.
        named = {Path(name).name: settings for name, settings in self.bases.items()}
        other = self.bases.get(base) or named.get(Path(base).name) or BaseConfig()
        changes = {"seeds": other.seeds, "resources": other.resources}
        return self.model_copy(
            update={
                "name": f"{self.name}-{Path(base).stem}",
                "base": base,
                "set": {**self.set, **other.set},
                **{name: value for name, value in changes.items() if value is not None},
            }
        )
