"""The messages between a driver and its trials: task requests and progress reports, as JSON values for Ray."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from ear.config import RunConfig
from ear.training.history import TrainingRecord
from sweeps.spec.intermediate import IntermediateConfig

Fault = Literal["task", "input", "storage", "code"]
"""The cause of a failure. `task`: another try may succeed. `input`: every try fails. `storage` (results can't be
written) and `code` (the process runs other code than the driver): every other task would fail as well."""


@dataclass(frozen=True)
class TaskRequest:
    """A task as a trial gets it."""

    code: str  # digest of the driver's code, which is part of the results' keys
    root: Path  # output root
    log: Path  # file for the trial's output
    stop: Path  # file that appears when the driver is stopping
    processes: int  # number of processes that run the task together
    training: RunConfig  # configuration whose stage is trained
    stage: int | None  # stage to train, counted from 0; None if the task only evaluates
    evaluations: dict[str, RunConfig]  # by evaluation key
    intermediate: IntermediateConfig | None

    def dumps(self) -> str:
        """Returns the request as JSON."""
        return json.dumps(
            {
                "code": self.code,
                "root": str(self.root),
                "log": str(self.log),
                "stop": str(self.stop),
                "processes": self.processes,
                "training": self.training.model_dump(mode="json"),
                "stage": self.stage,
                "evaluations": {key: config.model_dump(mode="json") for key, config in self.evaluations.items()},
                "intermediate": asdict(self.intermediate) if self.intermediate else None,
            }
        )

    @classmethod
    def loads(cls, text: str) -> "TaskRequest":
        """Reads a request from JSON."""
        values = json.loads(text)
        return cls(
            code=values["code"],
            root=Path(values["root"]),
            log=Path(values["log"]),
            stop=Path(values["stop"]),
            processes=values["processes"],
            training=RunConfig.model_validate(values["training"]),
            stage=values["stage"],
            evaluations={key: RunConfig.model_validate(config) for key, config in values["evaluations"].items()},
            intermediate=IntermediateConfig(**values["intermediate"]) if values["intermediate"] else None,
        )


@dataclass(frozen=True)
class Report:
    """The progress of a task. The results themselves are in the store."""

    state: Literal["training", "evaluating", "finished", "stopped", "failed"]
    step: int | None = None  # training steps done, counted from the start of the run
    records: list[TrainingRecord] = field(default_factory=list)  # new points of the training curve
    intermediate: list[tuple[int, float]] = field(default_factory=list)  # (step, value)
    traceback: str = ""  # of a failure
    evaluation: str | None = None  # key of the evaluation that failed; None if the training did
    fault: Fault = "task"

    def as_result(self) -> dict[str, Any]:
        """Returns the report as a result for Tune."""
        over = self.state in ("finished", "stopped", "failed")
        return {**asdict(self), "done": over}

    @classmethod
    def from_result(cls, result: dict[str, Any]) -> "Report":
        """Reads a report from a Tune result."""
        return cls(
            state=result["state"],
            step=result["step"],
            records=[TrainingRecord(**record) for record in result["records"]],
            intermediate=[(step, value) for step, value in result["intermediate"]],
            traceback=result["traceback"],
            evaluation=result["evaluation"],
            fault=result["fault"],
        )
