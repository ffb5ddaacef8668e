"""A sweep whose results are all in the store, to be written to MLflow, and what must be there then."""

from pathlib import Path
from typing import Any

import mlflow
import pytest
from simulated import plan_of, publish_evaluation, publish_training

from ear.store import Store
from ear.training.history import TrainingRecord
from sweeps.spec.plan import Plan
from sweeps.tracking.mlflow_values import flatten
from sweeps.tracking.tracker import Tracker

GRID = "name: tracked\nspace: {scoring.alpha: [1.0, 1.25, 1.5, 1.75]}\n"


def finished_plan(root: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.setattr("ear.run.from_tensors", lambda _: points(50))
    monkeypatch.setattr("ear.run.load_part", lambda *_: {})
    plan, store = plan_of(root, GRID), Store(root)
    for node in plan.tree.nodes.values():
        publish_training(store, node)
    for run in plan.runs:
        publish_evaluation(store, run)
        for name in ("samples.png", "samples_null.png"):
            (store.path(run.keys.evaluation) / name).write_bytes(b"")
    return plan


def points(most: int) -> list[TrainingRecord]:
    return [TrainingRecord(step, 1 / step, 0.5, 1e-3, float(step)) for step in range(10, most + 1, 10)]


def write(tracker: Tracker, plan: Plan, number: int) -> None:
    run = plan.runs[number]
    tracker.begin(run, {"ear.trial": str(number)})
    tracker.progress(run, points(30))
    tracker.finish(run, {})


def local_client(root: Path) -> Any:
    return mlflow.MlflowClient(f"sqlite:///{root / 'mlflow.db'}")


def children(client: Any) -> dict[str, Any]:
    """Runs by key, each there once."""
    experiment = client.get_experiment_by_name("tracked")
    runs = [run for run in client.search_runs([experiment.experiment_id]) if "ear.key" in run.data.tags]
    assert len({run.data.tags["ear.key"] for run in runs}) == len(runs)
    return {run.data.tags["ear.key"]: run for run in runs}


def assert_whole(client: Any, plan: Plan) -> None:
    """Every run is there exactly once, with all its parameters, points and results."""
    runs = children(client)
    assert sorted(runs) == sorted(run.keys.evaluation for run in plan.runs)
    parents = {run.data.tags["mlflow.parentRunId"] for run in runs.values()}
    assert [client.get_run(parent).info.status for parent in parents] == ["FINISHED"]
    for planned in plan.runs:
        run = runs[planned.keys.evaluation]
        assert run.info.status == "FINISHED"
        values = dict(flatten(planned.config.model_dump(mode="json")))
        assert run.data.params == {name: str(value) for name, value in values.items()}
        for name in ("loss", "gradient_norm", "learning_rate"):
            assert sorted(point.step for point in client.get_metric_history(run.info.run_id, name)) == [
                10,
                20,
                30,
                40,
                50,
            ]
        assert [point.value for point in client.get_metric_history(run.info.run_id, "fid")] == [20.0]
        artifacts = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
        assert artifacts == {"config.yaml", "evaluation.json", "samples.png", "samples_null.png"}


def forget_record(root: Path, name: str) -> None:
    """Leaves a sweep as earlier versions did: only MLflow knows its runs."""
    for record in (root / name).glob("sweep-*.json"):
        record.unlink()
