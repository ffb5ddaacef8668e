"""A sweep compiled into runs, and the runs into the work that is left."""

import itertools
import json
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ear.config import RunConfig
from ear.config.hashing import digest
from ear.config.loading import read_config, read_yaml, set_dotted, validate
from ear.data import load_dataset
from ear.errors import UserError
from ear.run import Run
from ear.store import RunKeys, Store, run_keys
from sweeps.schema import SweepConfig


@dataclass(frozen=True)
class PlannedRun:
    """A configuration (a point of the grid) with a seed."""

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
class Trial:
    """One training and the evaluations that need nothing but its weights."""

    key: str  # of the training
    runs: tuple[PlannedRun, ...]

    @property
    def config(self) -> RunConfig:
        return self.runs[0].config

    @property
    def label(self) -> str:
        more = f" (+{len(self.runs) - 1} evaluations)" if len(self.runs) > 1 else ""
        return self.runs[0].label + more


@dataclass(frozen=True)
class Plan:
    source: Path  # the sweep's YAML
    sweep: SweepConfig
    runs: tuple[PlannedRun, ...]

    @property
    def digest(self) -> str:
        """Of what the sweep computes: the same runs under the same name are the same sweep."""
        return digest([self.sweep.name, [run.keys.evaluation for run in self.runs]])[:32]

    def trials(self) -> list[Trial]:
        """The runs grouped by the training that they share, in the plan's order."""
        groups: dict[str, list[PlannedRun]] = defaultdict(list)
        for run in self.runs:
            groups[run.keys.training].append(run)
        return [Trial(key, tuple(runs)) for key, runs in groups.items()]

    def pending(self, store: Store) -> list[Trial]:
        """The trials of which the store lacks something, with only the runs that lack it."""
        trials = [
            Trial(trial.key, tuple(run for run in trial.runs if not is_done(run, store))) for trial in self.trials()
        ]
        return [trial for trial in trials if trial.runs]


def is_done(run: PlannedRun, store: Store) -> bool:
    """Evaluated, or diverged: both are results."""
    if run.keys.evaluation in store:
        return True
    outcome = Run(run.config, store).training_outcome()
    return outcome is not None and outcome.diverged_at is not None


def compile_plan(path: Path, base: str | None = None) -> Plan:
    """Reads and validates a sweep, on another base where one is given, and every configuration in it; computes nothing.

    Raises:
        UserError: naming the file, the place in it and the remedy.
    """
    sweep = validate(SweepConfig, read_yaml(path), source=str(path))
    if base is not None:
        sweep = sweep.on(base)
    elif Path(sweep.base).suffix in (".yaml", ".yml"):
        sweep = sweep.model_copy(update={"base": str(path.parent / sweep.base)})
    try:
        values = read_config(sweep.base)
    except UserError as error:
        raise UserError(f"{path}: base: {error}") from error
    for parameter, value in sweep.set.items():
        set_dotted(values, parameter, value)
    if sweep.set:
        validate(RunConfig, values, source=f"{path}: set")
    text = json.dumps(values)
    runs = []
    for combination in itertools.product(*sweep.space.values()):
        for seed in sweep.seeds:
            point = json.loads(text)
            parameters = dict(zip(sweep.space, combination, strict=True))
            for parameter, value in parameters.items():
                set_dotted(point, parameter, value)
            point["seed"] = seed
            set_dotted(point, "execution.threads", sweep.resources.cpus)
            config = validate(RunConfig, point, source=f"{path}: space")
            runs.append(PlannedRun(parameters, config))
    return Plan(path, sweep, tuple(runs))


def short_name(parameter: str) -> str:
    """The last part of a dotted parameter that is a name: training.stages.-1.train_temperature -> train_temperature."""
    return parameter.split(".")[-1]
