"""Reports of grids over every kind of axis: simulated sweeps, really written to MLflow and read from there."""

import csv
from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from simulated import plan_of, publish_evaluation, publish_training
from tracked import local_client

from analysis.report import Report, write_report
from ear.store import Store
from sweeps.plan import Plan
from sweeps.runs import PlannedRun
from sweeps.tracking import Tracker
from sweeps.tree import TrainingNode


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An output root for all of them, whose trainings leave no curves."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ear.run.from_tensors", lambda _: [])
        patch.setattr("ear.run.load_part", lambda *_: {})
        yield tmp_path_factory.mktemp("runs")


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
    tracker = Tracker(plan.identity, store, root)
    for run in plan.runs:
        if store.entry(run.keys.training).details["diverged_at"] is None:
            publish_evaluation(store, run, fid(run))
            for name in ("samples.png", "samples_null.png"):
                plt.imsave(store.path(run.keys.evaluation) / name, np.zeros((4, 4, 3)))
        tracker.finish(run, {})
    assert tracker.close(complete=True)
    return plan


def reported(root: Path, text: str, **how: Callable[..., object]) -> Report:
    return write_report(carried_out(root, text, **how).sweep.name, root)  # type: ignore[arg-type]


def rows_of(report: Report) -> list[dict[str, str]]:
    header, _, *lines = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in report.table.splitlines()]
    return [dict(zip(header, line, strict=True)) for line in lines]


def test_every_value_that_a_run_can_have_is_a_row(root: Path) -> None:
    """None beside numbers, lists, sections, and words for numbers."""
    space = """
  optimizer.warmup_steps: [100, null]
  optimizer.betas: [[0.9, 0.95], [0.8, 0.999]]
  model: [{width: 24, depth: 1, heads: 2}, {width: 16, depth: 2, heads: 2}]
  scoring.alpha: ["1.25"]
"""
    report = reported(root, f"name: kinds\nspace:{space}", fid=lambda run: 10.0 + run.config.model.width)
    rows = [(row["warmup_steps"], row["betas"], row["model"], row["α"], row["FID"]) for row in rows_of(report)]
    small, large = (
        ("{width: 16, depth: 2, heads: 2}", "1.25", "26.00"),
        ("{width: 24, depth: 1, heads: 2}", "1.25", "34.00"),
    )
    assert rows == [
        (warmup, betas, *model)
        for warmup in ("none", "100")
        for betas in ("[0.8, 0.999]", "[0.9, 0.95]")
        for model in (small, large)
    ]
    assert "There is no figure: one of 4 axes can't be drawn." in report.findings
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
    assert "model.width=16 generator.width=48 execution.precision=bfloat16 seed=0" in runs


def test_rows_against_other_images_are_labelled_and_not_compared(root: Path) -> None:
    report = reported(root, "name: references\nseeds: [0, 1]\nspace: {evaluation.reference: [train, test]}\n")
    assert "against 500 of digits/test or 1297 of digits/train;" in report.caption
    assert report.findings.startswith("The rows differ in reference, so their numbers are not compared")
    assert "lowest" not in report.findings


def experiment_of(root: Path, name: str) -> str:
    return str(local_client(root).get_experiment_by_name(name).experiment_id)
