"""The runs of a sweep and their results."""

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
    """One run of a sweep: a point of its space with a seed."""

    parameters: dict[str, Any]  # the axes' validated values, as JSON
    config: RunConfig
    names: Mapping[str, str]  # parameter -> short name for labels; the same in every run of the sweep

    @cached_property
    def keys(self) -> RunKeys:
        """The store keys of the run's results.

        Raises:
            UserError: the dataset is missing.
        """
        return run_keys(self.config, dataset_content(self.config.data))

    @property
    def seed(self) -> int:
        """The seed of training."""
        return self.config.seed

    @property
    def label(self) -> str:
        """The run's name for people: `alpha=1.25 seed=0`."""
        values = [f"{self.names[name]}={shown(value)}" for name, value in self.parameters.items()]
        return " ".join([*values, f"seed={self.seed}"])


@dataclass(frozen=True)
class RunResult:
    """How a run ended."""

    state: Literal["evaluated", "diverged", "pruned", "failed"]
    metrics: dict[str, float] = field(default_factory=dict)  # of an evaluated run
    diverged_at: int | None = None  # training step, counted from 1
    traceback: str = ""  # of a failed run
    seconds: float = 0.0  # duration of the evaluation


def result_of(run: PlannedRun, store: Store) -> RunResult | None:
    """Returns the run's result in the store: evaluated or diverged; None while there is none."""
    return stored_result(run.keys.stages, run.keys.evaluation, store)


def stored_result(stages: Sequence[str], evaluation: str, store: Store) -> RunResult | None:
    """As `result_of`, for the run with these stage keys and this evaluation key."""
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
    """Whether the store has the run's result."""
    return result_of(run, store) is not None


def keys_without_data(run: PlannedRun) -> RunKeys:
    """Returns stand-in keys that are equal exactly where the real ones are, for counting without the dataset."""
    return RunKeys(stage_keys(run.config, dataset_hash=""), run.config, None)
