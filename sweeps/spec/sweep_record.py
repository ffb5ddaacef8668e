"""The record of a sweep: its runs, and the keys under which the store has their results.

    ROOT/NAME/sweep-DIGEST.json

It leads from a sweep's name to its results without MLflow, and without the sweep's YAML and data. The driver writes it
before the first run begins and whenever a search proposes more. Sweeps that share a name have a record each.
"""

import json
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ear.errors import UserError
from ear.files.writing import write_json
from sweeps.spec.identity import SweepIdentity
from sweeps.spec.runs import PlannedRun

FORMAT = 1
# What an evaluation depends on beside its model, and what a table's caption or a notebook wants to know of it.
EVALUATION_SETTINGS = ("sampling.cfg", "sampling.infer_temperature", "sampling.steps", "evaluation.seed")


@dataclass(frozen=True)
class RecordedRun:
    """A run of a sweep: its point, and where the store has its results."""

    parameters: dict[str, Any]  # the axes' values
    seed: int
    stages: list[str]  # keys of its training stages, first to last
    evaluation: str  # key of its evaluation
    settings: dict[str, Any]  # the values of EVALUATION_SETTINGS
    tags: dict[str, str]  # a search's trial and role, as in `sweeps.spec.tags`

    @classmethod
    def of(cls, run: PlannedRun, tags: dict[str, str]) -> "RecordedRun":
        """Returns the record of a planned run."""
        settings: dict[str, Any] = {}
        for name in EVALUATION_SETTINGS:
            section, field = name.split(".")
            settings[name] = getattr(getattr(run.config, section), field)
        return cls(run.parameters, run.seed, list(run.keys.stages), run.keys.evaluation, settings, tags)


@dataclass(frozen=True)
class SweepRecord:
    """A sweep as its drivers recorded it."""

    name: str
    digest: str
    axes: list[str]  # dotted parameters
    objectives: list[str]  # the metrics that rank
    settings: dict[str, Any]  # all settings of its YAML
    last_ran: int  # when a driver last started on it, in ms since 1970
    complete: bool  # whether every run has its result
    experiment: str | None  # MLflow's id of its experiment; None while MLflow was never open
    runs: list[RecordedRun]

    @classmethod
    def begun(cls, identity: SweepIdentity, experiment: str | None) -> "SweepRecord":
        """Returns the record of a sweep that starts now."""
        return cls(
            identity.name,
            identity.digest,
            list(identity.axes),
            list(identity.objectives),
            identity.resolved,
            last_ran=time.time_ns() // 1_000_000,
            complete=False,
            experiment=experiment,
            runs=[],
        )

    def write(self, root: Path) -> None:
        """Writes the record. Runs that another driver of the same search has recorded stay in it."""
        path = record_file(root, self.name, self.digest)
        runs, experiment = {run.evaluation: run for run in self.runs}, self.experiment
        with suppress(FileNotFoundError, UserError):  # none yet, or a damaged one, which this replaces
            before = load_record(path)
            runs = {run.evaluation: run for run in before.runs} | runs
            experiment = experiment or before.experiment
        merged = replace(self, runs=list(runs.values()), experiment=experiment)
        write_json(path, {"format": FORMAT, **asdict(merged)})


def record_file(root: Path, name: str, digest: str) -> Path:
    """Returns the path of a sweep's record."""
    return root / name / f"sweep-{digest[:8]}.json"


def load_record(path: Path) -> SweepRecord:
    """Reads a record.

    Raises:
        FileNotFoundError: there is none.
        UserError: it is damaged, can't be read, or a newer version of this program wrote it.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        version = values.pop("format")
        if version == FORMAT:
            return SweepRecord(**{**values, "runs": [RecordedRun(**run) for run in values["runs"]]})
    except FileNotFoundError:
        raise
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(
            f"{path} is damaged or can't be read ({error}): run the sweep again, which writes it anew and computes "
            "nothing again."
        ) from error
    raise UserError(f"{path} was written by a newer version of this program: update the program.")


def load_records(root: Path, name: str) -> list[SweepRecord]:
    """Returns the records of all sweeps with this name, the one that ran last first.

    Raises:
        UserError: one can't be read.
    """
    records = [load_record(path) for path in sorted((root / name).glob("sweep-*.json"))]
    return sorted(records, key=lambda record: record.last_ran, reverse=True)


def recorded_names(root: Path) -> list[str]:
    """Returns the names of all sweeps with a record below a root."""
    return sorted({path.parent.name for path in root.glob("*/sweep-*.json")})
