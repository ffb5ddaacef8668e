"""What MLflow says of results that a repair removed is not shown, and corrected when they were computed anew."""

from pathlib import Path

import pytest
from simulated import publish_evaluation
from tracked import children, finished_plan

from analysis.report import refuse_removed
from analysis.results import load_results
from ear.errors import UserError
from ear.store import Store
from ear.store.repair import repair
from ear.store.verify import verify
from sweeps.mlflow_client import open_client
from sweeps.records import SweepRecords


def test_numbers_of_removed_results_are_refused_and_then_corrected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, store, client = finished_plan(tmp_path, monkeypatch), Store(tmp_path), open_client(tmp_path)
    records = SweepRecords(plan.identity, store, tmp_path, client)
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
    records = SweepRecords(plan.identity, store, tmp_path, client)  # a driver, which computes it anew
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
    again = SweepRecords(plan.identity, store, tmp_path, client)  # and the next driver changes nothing
    again.finish(first, {}, 3)
    assert children(client)[key].info.run_id == found[key].info.run_id
