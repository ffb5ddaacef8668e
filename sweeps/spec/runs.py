"""A run as a sweep sees it: a configuration with a seed, and what it is called."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from ear.config import RunConfig
from ear.data.content import dataset_content
from ear.evaluation.result import load_evaluation
from ear.store import RunKeys, Store, run_keys
from ear.store.keys import stage_keys
from sweeps.spec.naming import shown


@dataclass(frozen=True)
class PlannedRun:
    """A configuration (a point of the sweep's space) with a seed."""

    parameters: dict[str, Any]  # the axes' validated values, as JSON has them
    config: RunConfig
    names: Mapping[str, str]  # what labels call them, as in every run of the sweep

    @cached_property
    def keys(self) -> RunKeys:
        """
        Raises:
            UserError: the dataset is not there.
        """
        return run_keys(self.config, dataset_content(self.config.data))

    @property
    def seed(self) -> int:
        return self.config.seed

    @property
    def label(self) -> str:
        """For people: `alpha=1.25 seed=0`."""
        values = [f"{self.names[name]}={shown(value)}" for name, value in self.parameters.items()]
        return " ".join([*values, f"seed={self.seed}"])


@dataclass(frozen=True)
class RunResult:
    """How a run ended."""

    state: Literal["evaluated", "diverged", "pruned", "failed"]
    metrics: dict[str, float] = field(default_factory=dict)  # of an evaluated run
    diverged_at: int | None = None  # step, counted from 1
    traceback: str = ""  # of a failed one
    seconds: float = 0.0  # of its evaluation


def result_of(run: PlannedRun, store: Store) -> RunResult | None:
    """What the store knows: evaluated or diverged, both are results; None while it is neither."""
    return stored_result(run.keys.stages, run.keys.evaluation, store)


def stored_result(stages: Sequence[str], evaluation: str, store: Store) -> RunResult | None:
    """As `result_of`, of the run with these keys."""
    if evaluation in store:
        found = load_evaluation(evaluation, store)
        return RunResult("evaluated", found.metrics, seconds=found.seconds)
    for key in stages:
        if key not in store:
            return None
        if (diverged_at := store.entry(key).details["diverged_at"]) is not None:
            return RunResult("diverged", diverged_at=diverged_at)
    return None


def is_done(run: PlannedRun, store: Store) -> bool:
    return result_of(run, store) is not None


def keys_without_data(run: PlannedRun) -> RunKeys:
    """Keys that differ exactly where a run's do, for counting; the data need not be there."""
    return RunKeys(stage_keys(run.config, dataset_hash=""), run.config, None)
