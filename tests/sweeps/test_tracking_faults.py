"""MLflow's real client with faults put into it: whatever fails, and whenever, everything is there once."""

import itertools
import random
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE
from tracked import assert_whole, children, finished_plan, local_client, write

from ear.store import Store
from sweeps.spec.plan import Plan
from sweeps.tracking import mlflow_runs as records
from sweeps.tracking import tracker as tracking
from sweeps.tracking.tracker import Tracker

pytestmark = pytest.mark.usefixtures("database")

READS = ("search_runs", "get_metric_history")
WRITES = ("create_run", "log_batch", "log_dict", "log_artifact", "set_tag", "set_terminated", "update_run")


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.setattr(tracking, "SHORTEST_PAUSE", 0.001)
    return finished_plan(tmp_path, monkeypatch)


def break_calls(client: Any, fails: Callable[[str], str | None]) -> None:
    """`fails` is asked at each call: None, or whether it fails "before" or "after" it is carried out."""
    for name in (*READS, *WRITES):
        setattr(client, name, breaking(getattr(client, name), name, fails))


def breaking(call: Callable[..., Any], name: str, fails: Callable[[str], str | None]) -> Callable[..., Any]:
    def broken(*arguments: Any, **named: Any) -> Any:
        when = fails(name)
        if when != "before":
            result = call(*arguments, **named)
        if when is not None:
            raise MlflowException("the server is away", error_code=TEMPORARILY_UNAVAILABLE)
        return result

    return broken


@pytest.mark.parametrize("seed", range(4))
def test_calls_that_fail_before_or_after_they_are_carried_out(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(records, "PARAMETERS_PER_CALL", 25)
    monkeypatch.setattr(records, "METRICS_PER_CALL", 6)
    monkeypatch.setattr(tracking, "LONGEST_PAUSE", 0.01)
    tracker = Tracker(plan.identity, Store(tmp_path), tmp_path)
    choose = random.Random(seed)
    break_calls(tracker._client, lambda _: choose.choices([None, "before", "after"], [8, 1, 1])[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in range(4):
            write(tracker, plan, number)
        assert tracker.close(complete=True)
    assert_whole(local_client(tmp_path), plan)


def test_a_locked_database_is_waited_for_although_it_can_be_read(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "LONGEST_PAUSE", 0.01)
    tracker = Tracker(plan.identity, Store(tmp_path), tmp_path)
    writes = itertools.count()
    break_calls(tracker._client, lambda name: "before" if name in WRITES and next(writes) < 30 else None)
    for number in range(4):
        write(tracker, plan, number)
    assert tracker.close(complete=True)
    assert_whole(local_client(tmp_path), plan)


def test_a_record_that_never_works_costs_no_other(plan: Plan, tmp_path: Path) -> None:
    ill = plan.runs[0].keys.evaluation
    (Store(tmp_path).path(ill) / "samples.png").unlink()
    tracker = Tracker(plan.identity, Store(tmp_path), tmp_path)
    for number in range(4):
        write(tracker, plan, number)
    with pytest.warns(UserWarning, match="MLflow rejected a write.*samples.png"):
        tracker.close(complete=False)
    states = {key: run.info.status for key, run in children(local_client(tmp_path)).items()}
    assert states.pop(ill) == "KILLED"
    assert list(states.values()) == ["FINISHED"] * 3


def at_work(tracker: Tracker, count: int) -> dict[str, Any]:
    """The runs in MLflow by key, once they are that many and all of them described."""
    deadline = time.monotonic() + 20
    while True:
        runs = children(tracker._client)
        if len(runs) == count and all(records.STAGES in run.data.tags for run in runs.values()):
            return runs
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_run_that_somebody_deleted_is_made_anew(plan: Plan, tmp_path: Path) -> None:
    tracker = Tracker(plan.identity, Store(tmp_path), tmp_path)
    tracker.begin(plan.runs[0], {})
    (run,) = at_work(tracker, 1).values()
    tracker._client.delete_run(run.info.run_id)
    for number in range(4):
        write(tracker, plan, number)
    assert tracker.close(complete=True)
    assert_whole(local_client(tmp_path), plan)


def test_deleted_runs_at_work_keep_no_other_from_its_end(plan: Plan, tmp_path: Path) -> None:
    tracker = Tracker(plan.identity, Store(tmp_path), tmp_path)
    for run in plan.runs:
        tracker.begin(run, {})
    by_key = at_work(tracker, 4)
    left = by_key.pop(max(by_key))
    for deleted in by_key.values():
        tracker._client.delete_run(deleted.info.run_id)
    assert tracker.close(complete=False)
    assert tracker._client.get_run(left.info.run_id).info.status == "KILLED"
    assert tracker._runs is not None
    assert tracker._client.get_run(tracker._runs.parent).info.status == "KILLED"


def test_a_deleted_sweep_comes_back_with_the_children_it_had(plan: Plan, tmp_path: Path) -> None:
    for _ in range(2):
        tracker = Tracker(plan.identity, Store(tmp_path), tmp_path)
        for run in plan.runs:
            tracker.finish(run, {})
        assert tracker.close(complete=True)
        assert_whole(local_client(tmp_path), plan)
        assert tracker._runs is not None
        tracker._client.delete_run(tracker._runs.parent)
