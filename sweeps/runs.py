"""A run as a sweep sees it: a configuration with a seed, and what it is called."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from ear.config import RunConfig
from ear.data import load_dataset
from ear.evaluation import load_evaluation
from ear.run import Run
from ear.store import RunKeys, Store, run_keys


@dataclass(frozen=True)
class PlannedRun:
    """A configuration (a point of the sweep's space) with a seed."""

    parameters: dict[str, Any]  # the axes' values
    config: RunConfig

    @cached_property
    def keys(self) -> RunKeys:
        """
        Raises:
            UserError: the dataset is not there.
        """
        return run_keys(self.config, load_dataset(self.config.data))

    @property
    def seed(self) -> int:
        return self.config.seed

    @property
    def label(self) -> str:
        """For people: `alpha=1.25 seed=0`."""
        values = [f"{short_name(name)}={value}" for name, value in self.parameters.items()]
        return " ".join([*values, f"seed={self.seed}"])


@dataclass(frozen=True)
class RunResult:
    """How a run ended."""

    state: Literal["evaluated", "diverged", "pruned", "failed"]
    metrics: dict[str, float] = field(default_factory=dict)  # of an evaluated run
    diverged_at: int | None = None  # step, counted from 1
    traceback: str = ""  # of a failed one


def result_of(run: PlannedRun, store: Store) -> RunResult | None:
    """What the store knows: evaluated or diverged, both are results; None while it is neither."""
    if run.keys.evaluation in store:
        return RunResult("evaluated", load_evaluation(run.keys.evaluation, store).metrics)
    outcome = Run(run.config, store).training_outcome()
    if outcome is None or outcome.diverged_at is None:
        return None
    return RunResult("diverged", diverged_at=outcome.diverged_at)


def is_done(run: PlannedRun, store: Store) -> bool:
    """Evaluated, or diverged: both are results."""
    if run.keys.evaluation in store:
        return True
    outcome = Run(run.config, store).training_outcome()
    return outcome is not None and outcome.diverged_at is not None


def short_name(parameter: str) -> str:
    """The last part of a dotted parameter that is a name: training.stages.-1.train_temperature -> train_temperature."""
    return parameter.split(".")[-1]
