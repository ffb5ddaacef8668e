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
from sweeps import records, tracking
from sweeps.plan import Plan
from sweeps.tracking import Tracker

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
    with pytest.warns(UserWarning, match="MLflow refused a record.*samples.png"):
        tracker.close(complete=False)
    states = {key: run.info.status for key, run in children(local_client(tmp_path)).items()}
    assert states.pop(ill) == "KILLED"
    assert list(states.values()) == ["FINISHED"] * 3


def begun(tracker: Tracker, plan: Plan) -> str:
    """The id of the first run once it is in MLflow, and at work."""
    tracker.begin(plan.runs[0], {})
    deadline = time.monotonic() + 20
    while tracker._records is None or plan.runs[0].keys.stages[0] not in str(children(tracker._client)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return str(children(tracker._client)[plan.runs[0].keys.evaluation].info.run_id)


def test_a_run_that_somebody_deleted_is_made_anew(plan: Plan, tmp_path: Path) -> None:
    tracker = Tracker(plan.identity, Store(tmp_path), tmp_path)
    tracker._client.delete_run(begun(tracker, plan))
    for number in range(4):
        write(tracker, plan, number)
    assert tracker.close(complete=True)
    assert_whole(local_client(tmp_path), plan)


def test_a_deleted_run_at_work_keeps_no_other_from_its_end(plan: Plan, tmp_path: Path) -> None:
    tracker = Tracker(plan.identity, Store(tmp_path), tmp_path)
    deleted = begun(tracker, plan)
    for run in plan.runs[1:]:
        tracker.begin(run, {})
    tracker._client.delete_run(deleted)
    assert tracker.close(complete=False)
    assert [run.info.status for run in children(local_client(tmp_path)).values()] == ["KILLED"] * 3


def test_a_deleted_sweep_comes_back_with_the_children_it_had(plan: Plan, tmp_path: Path) -> None:
    for _ in range(2):
        tracker = Tracker(plan.identity, Store(tmp_path), tmp_path)
        for run in plan.runs:
            tracker.finish(run, {})
        assert tracker.close(complete=True)
        assert_whole(local_client(tmp_path), plan)
        assert tracker._records is not None
        tracker._client.delete_run(tracker._records.parent)
