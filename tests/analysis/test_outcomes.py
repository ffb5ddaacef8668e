"""A report from MLflow on runs that ended in every way: each outcome is a row, counted under its name."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.conditions import conditions_of
from analysis.mlflow_source import row
from analysis.plots.report_samples import first_seeds
from analysis.report import Report, with_keys, write_report
from analysis.results import METRICS, load_results
from analysis.statistics import summarise
from analysis.sweep_runs import RunOfSweep, SweepRuns
from ear.errors import UserError
from ear.store import Store
from ear.store.uses import recorded_uses
from sweeps.spec.tags import DIGEST, KEY, OUTCOME, PARAMETERS, PARENT, SEED
from sweeps.tracking.mlflow_client import open_client

ALPHA = "scoring.alpha"
# alpha -> each seed's outcome and the run's status in MLflow.
FINISHED, DIVERGED, PRUNED, FAILED = (
    ("finished", "FINISHED"),
    ("diverged", "FINISHED"),
    ("pruned", "FINISHED"),
    ("failed", "FAILED"),
)
RETRIED = ("failed", "RUNNING")  # it failed in an earlier call, and is at work again
ENDS = {
    1.0: [FINISHED, FINISHED, PRUNED],
    1.25: [FINISHED, FINISHED, FAILED],
    1.5: [FAILED],
    1.75: [PRUNED, DIVERGED],
    2.0: [FINISHED, RETRIED],
}


def track(client: Any, experiment: str, parent: str, alpha: float, seed: int, outcome: str, status: str) -> None:
    """A run as a sweep leaves it in MLflow."""
    tags = {PARENT: parent, PARAMETERS: json.dumps({ALPHA: alpha}), SEED: str(seed), KEY: f"{alpha}-{seed}"}
    run = client.create_run(experiment, tags={**tags, OUTCOME: outcome}).info.run_id
    for name in ("cfg", "steps", "infer_temperature"):
        client.log_param(run, f"sampling.{name}", "1")
    if outcome == "diverged":
        client.log_metric(run, "diverged_at", 7)
    if outcome == "finished":
        for tag in ("extractor", "extractor_hash", "reference"):
            client.set_tag(run, f"ear.{tag}", "x")
        measured = dict.fromkeys(METRICS, 10 * alpha + seed) | {"images": 20, "null_images": 20}
        for name, value in measured.items():
            client.log_metric(run, name, value)
    client.set_terminated(run, status) if status != "RUNNING" else client.update_run(run, status)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    client = open_client(root)
    experiment = client.create_experiment("ends", (root / "artifacts").as_uri())
    parent = client.create_run(experiment, tags={DIGEST: "x", PARAMETERS: json.dumps([ALPHA])}).info.run_id
    client.log_dict(parent, {"space": {ALPHA: list(ENDS)}, "seeds": [0, 1, 2]}, "sweep.json")
    for alpha, ends in ENDS.items():
        for seed, (outcome, status) in enumerate(ends):
            track(client, experiment, parent, alpha, seed, outcome, status)
    return root


@pytest.fixture(scope="module")
def report(root: Path) -> Report:
    """Without a sample sheet: the runs have no images."""
    return write_report("ends", root)


def test_a_failed_run_is_a_row_without_numbers(root: Path) -> None:
    frame = load_results("ends", root).frame
    failed = frame[frame["outcome"] == "failed"]
    assert failed[[ALPHA, "seed"]].to_numpy().tolist() == [[1.25, 2], [1.5, 0]]  # not the one at work again
    assert failed[[*METRICS, "diverged_at", "train_seconds"]].isna().all(axis=None)


def test_the_csv_counts_each_outcome(report: Report) -> None:
    table = pd.read_csv(report.folder / "table.csv")
    assert table[[ALPHA, "runs", "finished", "diverged", "pruned", "failed"]].to_numpy().tolist() == [
        [1.0, 3, 2, 0, 1, 0],
        [1.25, 3, 2, 0, 0, 1],
        [1.5, 1, 0, 0, 0, 1],
        [1.75, 2, 0, 1, 1, 0],
        [2.0, 1, 1, 0, 0, 0],
    ]
    assert table["keys"].tolist() == ["1.0-0 1.0-1 1.0-2", "1.25-0 1.25-1 1.25-2", "1.5-0", "1.75-0 1.75-1", "2.0-0"]


def test_a_run_without_an_evaluation_has_the_key_of_its_last_stage(root: Path) -> None:
    results = load_results("ends", root)
    frame = results.frame.assign(stages=[["first", "last"]] * len(results.frame))
    summary = summarise(frame, [ALPHA], METRICS).sort_values(ALPHA, ascending=False)  # the keys follow their rows
    keys = with_keys(summary, replace(results, frame=frame))["keys"].tolist()
    assert keys == ["2.0-0", "last last", "last", "1.25-0 1.25-1 last", "1.0-0 1.0-1 last"]


def test_the_table_names_each_outcome(report: Report) -> None:
    cells = [[cell.strip(" *↓↑") for cell in row.split("|")[1:-1]] for row in report.table.splitlines()]
    fid = {row[0]: row[cells[0].index("FID")] for row in cells[2:]}
    assert fid["1.0"].endswith("(1 of 3 stopped early)")
    assert fid["1.25"].endswith("(1 of 3 failed)")
    assert fid["1.5"] == "failed"
    assert fid["1.75"] == "1 diverged at step 7, 1 stopped early"
    assert fid["2.0"] == "20.00"


def test_what_has_not_ended_is_said_first(root: Path, report: Report) -> None:
    """Ten of fifteen: a run that failed has ended, one that is retried has not. It goes wherever the table goes."""
    said = "Incomplete: 10 of 15 runs have ended."
    assert load_results("ends", root).incomplete == report.incomplete == said
    assert (report.folder / "table.md").read_text().startswith(said)
    assert rf"\caption{{{said}" in (report.folder / "table.tex").read_text()


def test_a_whole_grid_lacks_nothing() -> None:
    def incomplete(space: dict[str, list[int]], seeds: list[int], ended: int) -> str:
        return SweepRuns(
            [], ["fid"], {"space": space, "seeds": seeds}, False, [RunOfSweep({}, "", {})] * ended
        ).incomplete

    assert incomplete({"a": [1, 2], "b": [1, 2, 3]}, [0, 1], 12) == ""
    assert incomplete({"a": [1, 2], "b": [1, 2, 3]}, [0, 1], 11) == "Incomplete: 11 of 12 runs have ended."
    assert incomplete({}, [0], 1) == ""


def test_the_caption_counts_the_seeds_that_the_numbers_rest_on(report: Report) -> None:
    assert "; 1 to 2 seeds, mean ± 95% interval" in report.caption


def test_the_sample_sheet_shows_the_first_finished_seed(root: Path) -> None:
    results = load_results("ends", root)
    summary = summarise(results.frame, [ALPHA], METRICS).dropna(subset=["fid"])
    assert [run["key"] for run in first_seeds(results, summary).values()] == ["1.0-0", "1.25-0", "2.0-0"]


def test_the_report_needs_the_results_that_it_shows(root: Path, report: Report) -> None:
    assert report.folder.exists()
    (use,) = recorded_uses(Store(root))
    assert sorted(use.keys) == ["1.0-0", "1.0-1", "1.25-0", "1.25-1", "2.0-0"]


def test_files_of_one_name_and_other_content_are_not_one_reference(root: Path) -> None:
    client = open_client(root)
    experiment = client.create_experiment("references", (root / "artifacts").as_uri())
    parent = client.create_run(experiment, tags={DIGEST: "y", PARAMETERS: json.dumps([ALPHA])}).info.run_id

    def runs(*hashes: str | None, **parameters: Sequence[object]) -> list[RunOfSweep]:
        found = []
        for seed, content in enumerate(hashes):
            track(client, experiment, parent, 1.0, seed, *FINISHED)
            run = client.search_runs([experiment])[0].info.run_id  # the newest
            if content is not None:
                client.set_tag(run, "ear.reference_hash", content)
            point = {f"evaluation.{name}": values[seed] for name, values in parameters.items()}
            found.append(RunOfSweep({ALPHA: 1.0, **point}, "", row(client.get_run(run))))
        return found

    def hashes(runs: list[RunOfSweep], axes: list[str]) -> list[str]:
        return [conditions["reference_hash"] for conditions in conditions_of(runs, axes)]

    assert hashes(runs("a", "a"), [ALPHA]) == ["a"]
    assert hashes(runs("a", None), [ALPHA]) == ["a"]  # an earlier version's does not tell
    with pytest.raises(UserError, match="differ in reference_hash: a, b"):
        conditions_of(runs("a", "b"), [ALPHA])
    reference = "evaluation.reference"
    assert hashes(runs("a", "b", reference=["train", "test"]), [ALPHA, reference]) == ["a", "b"]
    with pytest.raises(UserError, match="differ in reference_hash: a, b"):  # the axis decides something else
        conditions_of(runs("a", "b", reference=["train", "train"]), [ALPHA, reference])
    assert hashes(runs("a", "b", statistics=[None, "x.npz"]), ["evaluation.statistics"]) == ["a", "b"]
