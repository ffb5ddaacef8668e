"""A sweep compiled into runs, and the runs into the work that is left."""

import itertools
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from ear.config import RunConfig
from ear.config.hashing import digest
from ear.config.loading import read_config, read_yaml, set_dotted, validate
from ear.errors import UserError
from ear.store import Store
from sweeps.runs import PlannedRun, is_done
from sweeps.schema import SweepConfig


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
