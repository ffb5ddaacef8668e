"""What MLflow says of results that a repair removed is not shown, and corrected when they were computed anew."""

import json
from pathlib import Path

import pytest
from simulated import publish_evaluation, publish_training
from tracked import children, finished_plan

from analysis.results import load_results
from analysis.sound_results import refuse_removed
from ear.errors import UserError
from ear.store import Store
from ear.store.repair import REMOVED, repair
from ear.store.verify import verify
from sweeps.spec.plan import Plan
from sweeps.tracking.mlflow_client import open_client
from sweeps.tracking.mlflow_runs import MlflowRuns

pytestmark = pytest.mark.usefixtures("database")


def test_numbers_of_removed_results_are_refused_and_then_corrected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, store, client = finished_plan(tmp_path, monkeypatch), Store(tmp_path), open_client(tmp_path)
    records = MlflowRuns(plan.identity, store, tmp_path, client)
    for run in plan.runs:
        records.finish(run, {}, 1)
    first = plan.runs[0]
    key = first.keys.evaluation
    path = store.path(key) / "evaluation.json"
    path.write_text(path.read_text().replace("20.0", "10.0"))
    refuse_removed(store, load_results("tracked", tmp_path))
    repair(store, verify(store))
    with pytest.raises(UserError, match=r"1 of these results were damaged.*run the sweep again"):
        refuse_removed(store, load_results("tracked", tmp_path))
    before = children(client)[key].info.run_id
    records = MlflowRuns(plan.identity, store, tmp_path, client)  # a driver, which computes it anew
    publish_evaluation(store, first, fid=30.0)
    for name in ("samples.png", "samples_null.png"):
        (store.path(key) / name).write_bytes(b"")
    with pytest.raises(UserError, match=r"1 of these results were damaged.*run the sweep again"):
        refuse_removed(store, load_results("tracked", tmp_path))
    for run in plan.runs:
        records.finish(run, {}, 2)
    found = children(client)
    assert {each: run.data.metrics["fid"] for each, run in found.items()} == {
        run.keys.evaluation: 30.0 if run is first else 20.0 for run in plan.runs
    }
    assert client.get_run(before).info.lifecycle_stage == "deleted"
    assert len(client.get_metric_history(found[key].info.run_id, "loss")) == 5
    refuse_removed(store, load_results("tracked", tmp_path))
    again = MlflowRuns(plan.identity, store, tmp_path, client)  # and the next driver changes nothing
    again.finish(first, {}, 3)
    assert children(client)[key].info.run_id == found[key].info.run_id


def remove(store: Store, keys: list[str]) -> None:
    """As a repair does, whatever is damaged."""
    for key in keys:
        store.path(key).rename(store.folder.parent / key)
    (store.folder / REMOVED).write_text(json.dumps(keys))


def recorded(plan: Plan, store: Store, root: Path, at: int) -> None:
    records = MlflowRuns(plan.identity, store, root, open_client(root))
    for run in plan.runs:
        records.finish(run, {}, at)


def outcomes(root: Path, key: str) -> tuple[str, float | None, float | None]:
    run = children(open_client(root))[key]
    return run.data.tags["ear.outcome"], run.data.metrics.get("fid"), run.data.metrics.get("diverged_at")


@pytest.mark.parametrize("later", [None, 7], ids=["evaluated", "diverged elsewhere"])
def test_a_divergence_that_a_repair_removed_is_corrected(
    later: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, store = finished_plan(tmp_path, monkeypatch), Store(tmp_path)
    first = plan.runs[0]
    key, training = first.keys.evaluation, plan.tree.nodes[first.keys.training]
    store.path(key).rename(tmp_path / "never")
    store.path(training.key).rename(tmp_path / "before")
    publish_training(store, training, diverged_at=15)
    recorded(plan, store, tmp_path, 1)
    assert outcomes(tmp_path, key) == ("diverged", None, 15.0)
    refuse_removed(store, load_results("tracked", tmp_path))
    remove(store, list(first.keys.stages))
    for node in map(plan.tree.nodes.__getitem__, first.keys.stages):
        publish_training(store, node, later if node is training else None)
    if later is None:
        publish_evaluation(store, first, fid=30.0)
        for name in ("samples.png", "samples_null.png"):
            (store.path(key) / name).write_bytes(b"")
    with pytest.raises(UserError, match=r"1 of these results were damaged"):
        refuse_removed(store, load_results("tracked", tmp_path))
    recorded(plan, store, tmp_path, 2)
    assert outcomes(tmp_path, key) == (("finished", 30.0, None) if later is None else ("diverged", None, 7.0))
    refuse_removed(store, load_results("tracked", tmp_path))


@pytest.mark.parametrize("fails", [False, True], ids=["at once", "failing first"])
def test_a_result_that_a_repair_removed_may_turn_out_a_divergence(
    fails: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, store = finished_plan(tmp_path, monkeypatch), Store(tmp_path)
    recorded(plan, store, tmp_path, 1)
    first = plan.runs[0]
    key, training = first.keys.evaluation, plan.tree.nodes[first.keys.training]
    assert MlflowRuns(plan.identity, store, tmp_path, open_client(tmp_path)).has_ended(key)
    remove(store, [training.key, key])
    # What MLflow has of it may be written anew, which imports torch: by the driver's thread, not beside it.
    assert not MlflowRuns(plan.identity, store, tmp_path, open_client(tmp_path)).has_ended(key)
    if fails:
        MlflowRuns(plan.identity, store, tmp_path, open_client(tmp_path)).fail(first, {}, "boom")
        assert outcomes(tmp_path, key) == ("failed", None, None)
    publish_training(store, training, diverged_at=15)
    if fails:
        recorded(plan, store, tmp_path, 2)
        assert outcomes(tmp_path, key) == ("diverged", None, 15.0)
        return
    with pytest.raises(UserError, match=r"1 of these results were damaged"):
        refuse_removed(store, load_results("tracked", tmp_path))
    recorded(plan, store, tmp_path, 2)
    assert outcomes(tmp_path, key) == ("diverged", None, 15.0)
    refuse_removed(store, load_results("tracked", tmp_path))
