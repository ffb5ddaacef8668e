"""What a driver and its trials tell each other: a task, and how far it is. As JSON values, since Ray carries them."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from ear.config import RunConfig
from ear.training.history import TrainingRecord
from sweeps.spec.intermediate import IntermediateConfig

Fault = Literal["task", "input", "storage", "code"]
"""Whose it is: the task's, which may try again; the input's, which always fails; or that of the place where results are
kept, or of a process that runs other code than the driver: there every other task would fail as well."""


@dataclass(frozen=True)
class TaskRequest:
    """A task, as a trial gets it."""

    code: str  # digest of the driver's, which names the results
    root: Path  # of outputs
    log: Path  # file that the trial's output goes to
    stop: Path  # a file that appears when everything is to stop
    processes: int  # that work on it together
    training: RunConfig  # whose stage is to be trained
    stage: int | None  # None where nothing is to be trained
    evaluations: dict[str, RunConfig]  # by key
    intermediate: IntermediateConfig | None

    def dumps(self) -> str:
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
    """How far a task is. The results themselves are in the store."""

    state: Literal["training", "evaluating", "finished", "stopped", "failed"]
    step: int | None = None  # of training done, counted from its start
    records: list[TrainingRecord] = field(default_factory=list)  # new points of the curve
    intermediate: list[tuple[int, float]] = field(default_factory=list)  # (step, value)
    traceback: str = ""  # of a fault
    evaluation: str | None = None  # the key of the evaluation that it happened in
    fault: Fault = "task"

    def as_result(self) -> dict[str, Any]:
        """As Tune wants a trial's result."""
        over = self.state in ("finished", "stopped", "failed")
        return {**asdict(self), "done": over}

    @classmethod
    def from_result(cls, result: dict[str, Any]) -> "Report":
        return cls(
            state=result["state"],
            step=result["step"],
            records=[TrainingRecord(**record) for record in result["records"]],
            intermediate=[(step, value) for step, value in result["intermediate"]],
            traceback=result["traceback"],
            evaluation=result["evaluation"],
            fault=result["fault"],
        )
