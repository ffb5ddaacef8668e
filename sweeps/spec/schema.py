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

MOST_RUNS = 100_000  # runs of a grid; planning this many takes two gigabytes and a minute or two
MOST_CHARACTERS = 5_000  # of a description; MLflow shortens tags above 8,000
MOST_TAGS = 50
MOST_SHOWN = 8  # axes listed in an error message


def _differ(seeds: list[int]) -> list[int]:
    if len(set(seeds)) < len(seeds):
        raise ValueError("duplicate seed")
    return seeds


Seed = Annotated[NonNegative, Field(le=2**62)]
"""At most half of a run's largest seed, since a search's confirmation takes fresh seeds above it."""
Seeds = Annotated[list[Seed], Field(min_length=1), AfterValidator(_differ)]


def _axes_vary(space: dict[str, list[Any]]) -> dict[str, list[Any]]:
    for parameter, values in space.items():
        if not values:
            raise ValueError(f"the axis {parameter} is empty; give it at least one value")
        if (repeated := first_repeated(values)) is not None:
            raise ValueError(f"the axis {parameter} has the duplicate value {shortened(repr(values[repeated]))}")
        section = parameter.split(".")[0]
        if section == "seed":
            raise ValueError("seed can't be an axis; list the seeds under `seeds`, so tables average over them")
    return space


Axes = Annotated[dict[str, list[Any]], AfterValidator(_axes_vary)]


def _is_own(name: str) -> str:
    if name.startswith(("ear.", "mlflow.")):
        raise ValueError("names that begin with `ear.` or `mlflow.` are taken; use another one")
    return name


TagName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_./ -]{0,99}$"), AfterValidator(_is_own)]
TagValue = Annotated[str, Field(max_length=500)]


class ResourcesConfig(Section):
    """What one trial gets."""

    cpus: Annotated[Parallel, Field(gt=0)] = 1
    """CPUs per trial, and torch's thread count; a trial's processes share them."""
    gpus: Annotated[Number, Field(ge=0, le=1024)] = 0
    """GPUs per trial, all on one node. Below 1, trials share a GPU; from 2 on, a trial runs one process per GPU."""

    @field_validator("gpus")
    @classmethod
    def _whole_from_one_on(cls, gpus: float) -> float:
        if gpus > 1 and not gpus.is_integer():
            raise ValueError("give a fraction below 1 to share a GPU, or a whole number of GPUs")
        return gpus

    @property
    def processes(self) -> int:
        """Processes per trial."""
        return max(1, int(self.gpus))


class BaseConfig(Section):
    """What a sweep changes when it runs on one of its other bases."""

    set: dict[str, Any] = {}
    """Dotted parameters that are added to the sweep's own `set`."""
    space: Axes = {}
    """Other values for axes of the sweep, where the base's size calls for them."""
    seeds: Seeds | None = None
    resources: ResourcesConfig | None = None


class SweepConfig(Section):
    """A sweep YAML: a grid over `space`, or a `search`."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
    """The sweep's name in MLflow and of its folder: letters, digits, '_', '-' and '.'."""
    description: Annotated[str, Field(max_length=MOST_CHARACTERS)] = ""
    """What the sweep is for, in words (Markdown); recorded in MLflow. Changes nothing that is computed."""
    tags: Annotated[dict[TagName, TagValue], Field(max_length=MOST_TAGS)] = {}
    """Tags of the sweep in MLflow, for example `project: ablations`. Changes nothing that is computed."""
    base: str = "digits"
    """A shipped configuration, or a YAML file beside this one."""
    set: dict[str, Any] = {}
    """Dotted parameters that differ from the base in every run."""
    space: Axes = {}
    """Dotted parameter -> its values; the sweep is the grid of all combinations. Give this or `search`."""
    search: SearchConfig | None = None
    """A search instead of a grid: Optuna proposes points of a space one after another."""
    seeds: Seeds = [0]
    """Every configuration runs once with each seed; runs that differ only in evaluation share a training."""
    metric: MetricConfig = MetricConfig()
    resources: ResourcesConfig = ResourcesConfig()
    concurrency: Count | None = None
    """Trials at a time; by default as many as the CPUs and GPUs allow."""
    retries: NonNegative = 2
    """How often a failing task is tried again, from its last checkpoint, before it counts as failed."""
    bases: dict[str, BaseConfig] = {}
    """Other bases for `--base`, by name."""

    @field_validator("name")
    @classmethod
    def _is_free(cls, name: str) -> str:
        if is_reserved(name):
            raise ValueError(f"this name is reserved for EAR's own files; use another one (for example, sweep-{name})")
        return name

    @model_validator(mode="after")
    def _bases_vary_axes(self) -> Self:
        for name, other in self.bases.items():
            if unknown := other.space.keys() - self.space.keys():
                raise ValueError(f"bases: {name}: space: {min(unknown)} is not an axis of this sweep; use `set`")
        return self

    @model_validator(mode="after")
    def _is_countable(self) -> Self:
        axes = [len(values) for values in self.space.values()]
        if self.space and math.prod([*axes, len(self.seeds)]) > MOST_RUNS:
            counted = " x ".join(f"{size:,}" for size in axes[:MOST_SHOWN])
            more = f" and {len(axes) - MOST_SHOWN} more axes" if len(axes) > MOST_SHOWN else ""
            raise ValueError(
                f"space: a grid of {counted}{more} with {len(self.seeds):,} seeds for each point has more than "
                f"{MOST_RUNS:,} runs; remove values, or use `search`"
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
                "search: early_stopping needs an objective that is better when lower: fid or fid_null, "
                f"not {self.objective}"
            )
        return self

    @property
    def objectives(self) -> list[MetricName]:
        """The metrics that a search optimises or a grid is ranked by."""
        return list((self.search.objectives if self.search else None) or [self.metric.name])

    @property
    def objective(self) -> MetricName:
        """The first objective, which ranks configurations."""
        return self.objectives[0]

    def on(self, base: str) -> Self:
        """Returns the sweep on another base, renamed to NAME-BASE."""
        # A job reads a copy of the base in another folder, so files match by name.
        named = {Path(name).name: settings for name, settings in self.bases.items()}
        other = self.bases.get(base) or named.get(Path(base).name) or BaseConfig()
        changes = {"seeds": other.seeds, "resources": other.resources}
        return self.model_copy(
            update={
                "name": f"{self.name}-{Path(base).stem}",
                "base": base,
                "set": {**self.set, **other.set},
                "space": {**self.space, **other.space},
                **{name: value for name, value in changes.items() if value is not None},
            }
        )
