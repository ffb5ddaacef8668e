"""Reports of grids over every kind of axis: simulated sweeps, really written to MLflow and read from there."""

import csv
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from pandas.testing import assert_frame_equal
from simulated import plan_of, publish_evaluation, publish_training
from tracked import forget_record, local_client

from analysis.report import Layout, Report, write_report, write_reports
from analysis.results import load_results
from ear.errors import UserError
from ear.store import Store
from ear.store.collect import find_garbage
from ear.store.uses import recorded_uses
from sweeps.driver.run_sweep import run_sweep
from sweeps.spec.naming import is_reserved
from sweeps.spec.plan import Plan
from sweeps.spec.runs import PlannedRun
from sweeps.spec.stage_tree import TrainingNode
from sweeps.tracking.mlflow_database import sqlite_uri
from sweeps.tracking.tracker import Tracker


@pytest.fixture(scope="module")
def root(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An output root for all of them, whose trainings leave no curves."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ear.run.from_tensors", lambda _: [])
        patch.setattr("ear.run.load_part", lambda *_: {})
        root = tmp_path_factory.mktemp("runs")
        shutil.copy(empty_database, root / "mlflow.db")
        yield root


def carried_out(
    root: Path,
    text: str,
    fid: Callable[[PlannedRun], float] = lambda _: 20.0,
    diverge: Callable[[TrainingNode], bool] = lambda _: False,
) -> Plan:
    """A sweep with all its results in the store and in MLflow."""
    plan, store = plan_of(root, text), Store(root)
    for node in plan.tree.nodes.values():
        publish_training(store, node, 5 if diverge(node) else None)
    for run in plan.runs:
        if store.entry(run.keys.training).details["diverged_at"] is None:
            publish_evaluation(store, run, fid(run))
            for name in ("samples.png", "samples_null.png"):
                plt.imsave(store.path(run.keys.evaluation) / name, np.zeros((4, 4, 3)))
    assert run_sweep(plan, root).reused == len(plan.runs)
    return plan


def reported(root: Path, text: str, **how: Callable[..., object]) -> Report:
    return write_report(carried_out(root, text, **how).sweep.name, root)  # type: ignore[arg-type]


def rows_of(report: Report) -> list[dict[str, str]]:
    header, _, *lines = [
        [cell.strip(" *↓↑") for cell in line.strip("|").split(" | ")] for line in report.table.splitlines()
    ]
    return [dict(zip(header, line, strict=True)) for line in lines]


def test_every_value_that_a_run_can_have_is_a_row(root: Path) -> None:
    """None beside numbers, lists, sections, and whole numbers where a run has fractions."""
    space = """
  optimizer.warmup_steps: [100, null]
  optimizer.betas: [[0.9, 0.95], [0.8, 0.999]]
  model: [{width: 24, depth: 1, heads: 2}, {width: 16, depth: 2, heads: 2}]
  scoring.alpha: [1]
"""
    report = reported(root, f"name: kinds\nspace:{space}", fid=lambda run: 10.0 + run.config.model.width)
    rows = [(row["warmup_steps"], row["betas"], row["model"], row["α"], row["FID"]) for row in rows_of(report)]
    small, large = (
        ("{width: 16, depth: 2, heads: 2}", "1.0", "26.00"),
        ("{width: 24, depth: 1, heads: 2}", "1.0", "34.00"),
    )
    assert rows == [
        (warmup, betas, *model)
        for warmup in ("none", "100")
        for betas in ("[0.8, 0.999]", "[0.9, 0.95]")
        for model in (small, large)
    ]
    assert "There is no figure of the metrics: 4 axes need shared seeds." in report.findings
    with (report.folder / "table.csv").open() as table:
        written = list(csv.DictReader(table))
    assert [row["optimizer.betas"] for row in written[:3]] == ["[0.8, 0.999]", "[0.8, 0.999]", "[0.9, 0.95]"]


def test_two_widths_are_two_columns_and_precision_is_no_metric(root: Path) -> None:
    space = "{model.width: [16, 24], scoring.generator.width: [32, 48], execution.precision: [bfloat16]}"
    report = reported(root, f"name: widths\nspace: {space}\n")
    rows = [
        [row[name] for name in ("model.width", "generator.width", "execution.precision")] for row in rows_of(report)
    ]
    assert rows == [[width, inner, "bfloat16"] for width in ("16", "24") for inner in ("32", "48")]
    assert {row["precision"] for row in rows_of(report)} == {"0.600"}
    runs = [run.info.run_name for run in local_client(root).search_runs([experiment_of(root, "widths")])]
    assert "16, 48, bfloat16, seed 0" in runs


def test_what_an_earlier_version_noted_of_a_point_is_corrected(root: Path) -> None:
    """It noted what stood in the YAML: two seeds of one configuration would be two rows."""
    text = "name: noted\nseeds: [0, 1]\nspace: {scoring.alpha: [1.5]}\n"
    assert len(rows_of(reported(root, text))) == 1
    forget_record(root, "noted")
    client = local_client(root)
    runs = client.search_runs([experiment_of(root, "noted")], "tags.`ear.seed` = '1'")
    client.set_tag(runs[0].info.run_id, "ear.parameters", '{"scoring.alpha": "1.5"}')
    assert len(rows_of(write_report("noted", root))) == 2
    assert [row["α"] for row in rows_of(reported(root, text))] == ["1.5"]


def test_the_store_and_mlflow_give_the_same_report(root: Path) -> None:
    text = "name: twice\nseeds: [0, 1]\nspace: {scoring.alpha: [0.9, 1.5], sampling.cfg: [1.0, 2.0]}\n"
    report = reported(root, text, diverge=lambda node: node.config.scoring.alpha < 1)
    from_store = {file.name: file.read_bytes() for file in report.files}
    stored, tracked = (load_results("twice", root, uri) for uri in (None, sqlite_uri(root / "mlflow.db")))
    assert (stored.client is None, tracked.client is None) == (True, False)
    assert_frame_equal(stored.frame.drop(columns="run_id"), tracked.frame.drop(columns="run_id"), check_dtype=False)
    forget_record(root, "twice")
    assert {file.name: file.read_bytes() for file in write_report("twice", root).files} == from_store


def test_wrong_input_leaves_the_previous_report_whole(root: Path, tmp_path: Path) -> None:
    report = reported(root, "name: whole\nspace: {scoring.alpha: [1.25, 1.5]}\n")
    before = {file: file.read_bytes() for file in report.files}
    with pytest.raises(UserError, match=r"There is no column fdi; columns: fid, is"):
        write_report("whole", root, layout=Layout(["fid", "fdi"]))
    assert {file: file.read_bytes() for file in report.files} == before
    with pytest.raises(UserError, match=r"There is no sweep 'hole'"):
        write_reports(["whole", "hole"], root, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_report_needs_no_mlflow(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "name: alone_with_store\nspace: {scoring.alpha: [1.5]}\n"
    carried_out(root, text)
    expected = load_results("alone_with_store", root).frame
    shutil.copytree(root / "store", tmp_path / "store")
    shutil.copytree(root / "alone_with_store", tmp_path / "alone_with_store")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # nobody listens there
    assert_frame_equal(load_results("alone_with_store", tmp_path).frame, expected)


def test_a_damaged_record_is_named(root: Path) -> None:
    carried_out(root, "name: spoiled\nspace: {scoring.alpha: [1.5]}\n")
    (record,) = (root / "spoiled").glob("sweep-*.json")
    record.write_text(record.read_text()[:-30])
    with pytest.raises(UserError, match=r"sweep-.*\.json is damaged .*: run the sweep again"):
        load_results("spoiled", root)
    carried_out(root, "name: spoiled\nspace: {scoring.alpha: [1.5]}\n")  # which writes it anew
    assert load_results("spoiled", root).client is None


def test_an_unknown_sweep_is_met_with_similar_names(root: Path) -> None:
    carried_out(root, "name: known_one\nspace: {scoring.alpha: [1.5]}\n")
    with pytest.raises(UserError, match=r"There is no sweep 'knwon_one' in .*; did you mean known_one"):
        load_results("knwon_one", root)


def test_a_grid_whose_values_change_and_change_back(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three calls on one name: the report shows the sweep that ran last, and nothing of either is garbage."""
    monkeypatch.setattr("ear.store.collect.SETTLED_SECONDS", -1.0)
    first, other = (f"name: changed\nspace: {{scoring.{axis}}}\n" for axis in ("alpha: [1.1, 1.2]", "epsilon: [0.1]"))
    assert "used the name" not in reported(root, first).findings
    with pytest.warns(UserWarning, match="another sweep with other runs has already used the name changed"):
        report = reported(root, other)
    assert [row["epsilon"] for row in rows_of(report)] == ["0.1"]
    assert (report.folder / "figures" / "epsilon.png").exists()
    assert not (report.folder / "figures" / "alpha.png").exists()  # of the other runs
    for number in range(2):
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            report = reported(root, first)
        assert [row["α"] for row in rows_of(report)] == ["1.1", "1.2"], number
        assert {file.name for file in report.folder.rglob("*.png")} == {"alpha.png"}
        assert "Another sweep with other runs used the name changed before; this is the one that ran last." in (
            report.findings
        )

    store = Store(root)
    keys = {
        text: {key for run in plan_of(root, text).runs for key in (run.keys.evaluation, *run.keys.stages)}
        for text in (first, other)
    }
    offered = {entry.key for entry in find_garbage(store).results}
    assert not offered & (keys[first] | keys[other])
    user = plan_of(root, other).identity.user
    assert user in {use.user for use in recorded_uses(store)}
    assert keys[other] <= {entry.key for entry in find_garbage(store, [user]).results}
    assert not {entry.key for entry in find_garbage(store, [user]).results} & keys[first]
    assert keys[other] <= {entry.key for entry in find_garbage(store, ["sweep changed"]).results}


def test_two_sweeps_of_one_name_at_once_both_write(root: Path) -> None:
    plans = [carried_out(root, f"name: at_once\nspace: {{scoring.alpha: [{alpha}]}}\n") for alpha in (1.3, 1.4)]
    first, second = (Tracker(plan.identity, Store(root), root) for plan in plans)
    assert second.close(complete=True)
    assert first.close(complete=True)


def test_where_every_run_diverged_the_table_says_when(root: Path) -> None:
    text = "name: diverged\nspace: {scoring.alpha: [0.8, 0.9]}\n"
    report = reported(root, text, diverge=lambda _: True)
    assert [(row["α"], row["FID"], row["recall"]) for row in rows_of(report)] == [
        (alpha, "diverged at step 5", "diverged at step 5") for alpha in ("0.8", "0.9")
    ]
    assert report.caption == "No run has finished, so nothing was measured."
    assert "There is no figure of the metrics: no run has finished." in report.findings
    assert [file.name for file in report.files] == ["table.md", "table.csv", "table.tex"]
    (use,) = (use for use in recorded_uses(Store(root)) if use.user == "report diverged")
    assert use.keys == {key for run in plan_of(root, text).runs for key in run.keys.stages}


def test_the_names_that_the_program_itself_uses_are_reserved(root: Path) -> None:
    carried_out(root, "name: alone\nspace: {scoring.alpha: [1.5]}\n")
    names = {experiment.name for experiment in local_client(root).search_experiments()}
    sweeps = {name for name in names if not is_reserved(name)}
    assert "alone" in sweeps
    assert {path.name for path in root.iterdir() if not is_reserved(path.name)} == {*sweeps, "sweep.yaml"}


def experiment_of(root: Path, name: str) -> str:
    return str(local_client(root).get_experiment_by_name(name).experiment_id)
