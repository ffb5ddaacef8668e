"""The report of a search with several objectives: a simulated search, really written to MLflow and read from there."""

import csv
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from searching import searching, text
from simulated import plan_of, work_through
from test_confirmation import front_of, lucky_fid, lucky_recall

from analysis.report import Report, write_report
from analysis.results import load_results
from ear.store import Store
from sweeps.search.search import Search
from sweeps.tracking.tracker import Tracker

MORE = """
  objectives: [fid, recall]
  constraints: {fid: {at_most: 20}}
  confirmation: {seeds: 3, images: 4000}
"""


def reported(root: Path, yaml: str) -> tuple[Search, Report]:
    search, work, hands = searching(root, yaml, fid=lucky_fid, recall=lucky_recall)
    work_through([work], hands)
    tracker = Tracker(plan_of(root, yaml).identity, hands.store, root)
    for run in work.tree.runs.values():
        for name in ("samples.png", "samples_null.png"):
            plt.imsave(hands.store.path(run.keys.evaluation) / name, np.zeros((4, 4, 3)))
        tracker.finish(run, search.tags(run))
    assert tracker.close(complete=True)
    return search, write_report("s", root)


pytestmark = pytest.mark.usefixtures("no_waiting", "no_curves", "database")


@pytest.fixture
def no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulated trainings leave none."""
    monkeypatch.setattr("ear.run.from_tensors", lambda _: [])
    monkeypatch.setattr("ear.run.load_part", lambda *_: {})


def test_the_front_comes_first_and_is_said_with_every_objective(tmp_path: Path) -> None:
    search, report = reported(tmp_path, text("random", MORE, trials=5))
    trials = search.study.trials()
    front = [trial.number for trial in search.best()]
    assert set(front) == {number for number in front_of(search) if trials[number].values[0] <= 20}
    assert 2 < len(front) < 8

    header, _, *lines = [
        [cell.strip(" *↓↑") for cell in line.strip("|").split("|")] for line in report.table.splitlines()
    ]
    rows = [dict(zip(header, line, strict=True)) for line in lines]
    assert [row["Pareto front"] for row in rows[: len(front)]] == [f"trial {number}" for number in front]
    assert {row["Pareto front"] for row in rows[len(front) :]} == {""}
    assert [row["FID"] for row in rows[: len(front)]] == [f"{trials[number].values[0]:.2f}" for number in front]
    assert [row["constraints"] == "fid above 20" for row in rows] == [float(row["FID"]) > 20 for row in rows]
    assert rows[-1]["constraints"] == "fid above 20"

    assert (
        f"15 configurations, 15 with a value, {sum(t.values[0] > 20 for t in trials)} outside the constraints"
        in report.findings
    )
    assert f"{len(front)} on the Pareto front of fid and recall" in report.findings
    for number in front:
        fid, recall = trials[number].values
        assert (
            f"Trial {number} had fid {fid:.2f} and recall {recall:.3f} in the search; over 3 fresh seeds and 4000 "
            f"images each it has fid {fid + 10:.2f} ± 2.48 and recall {recall - 0.1:.3f} ± 0.000."
        ) in report.findings

    with (tmp_path / "s" / "report" / "table.csv").open() as table:
        written = list(csv.DictReader(table))
    assert [int(row["trial"]) for row in written if row["pareto_front"] == "True"] == front

    assert report.incomplete == ""
    stopped = Tracker(plan_of(tmp_path, text("random", MORE, trials=5)).identity, Store(tmp_path), tmp_path)
    assert stopped.close(complete=False)
    assert load_results("s", tmp_path).incomplete == (
        "Incomplete: the search has not finished; 15 of its trials have ended."
    )
    assert {row["trial"] for row in written if row["broken"]} == {
        str(trial.number) for trial in trials if trial.values[0] > 20
    }


def test_a_parent_without_all_objectives_means_one(tmp_path: Path) -> None:
    """As an earlier version left it; the next driver makes up for it."""
    yaml = text("random", "  objectives: [fid, recall]\n  confirmation: null\n", trials=3)
    search, report = reported(tmp_path, yaml)
    assert "Pareto front" in report.table
    plan = plan_of(tmp_path, yaml)
    tracker = Tracker(plan.identity, search._store, tmp_path)
    assert tracker._runs is not None
    client, parent = tracker._runs.client, tracker._runs.parent
    assert client.get_run(parent).data.tags["ear.objectives"] == '["fid", "recall"]'
    assert tracker.close(complete=True)
    client.delete_tag(parent, "ear.objectives")
    report = write_report("s", tmp_path)
    assert "Pareto front" not in report.table
    assert "the 9 best above" in report.findings
    assert Tracker(plan.identity, search._store, tmp_path).close(complete=True)
    assert "Pareto front" in write_report("s", tmp_path).table
