"""Builds the request by which a trial gets its task."""

from pathlib import Path

from ear.process.code import code_digest
from sweeps.driver.scheduler import Task
from sweeps.spec.intermediate import IntermediateConfig
from sweeps.trial.messages import TaskRequest


def task_request(
    task: Task, root: Path, log: Path, stop: Path, processes: int, intermediate: IntermediateConfig | None
) -> TaskRequest:
    """Builds the request for a task of this driver; the arguments are fields of `TaskRequest`."""
    return TaskRequest(
        code=code_digest(),
        root=root,
        log=log,
        stop=stop,
        processes=processes,
        training=task.node.config,
        stage=task.node.stage if task.trains else None,
        evaluations={run.keys.evaluation: run.config for run in task.runs},
        intermediate=intermediate if task.trains else None,
    )
