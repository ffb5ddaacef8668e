"""A real two-point sweep through Ray, the store and MLflow: run, run again, interrupted, killed, reported.

Each command is here once as users start it; what else it answers is asked in this process.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import in_process
import mlflow
import numpy as np
import pytest

from analysis.plots.sample_images import guided_images, real_images, sample_images
from analysis.results import load_results
from ear.store import Store

EAR = str(Path(sys.executable).parent / "ear")
SWEEP = """
name: tiny
set:
  training.stages.0.steps: {steps}
  training.stages.1.steps: 10
  optimizer.warmup_steps: 10
  evaluation.images: 200
  evaluation.null_images: 100
  execution.log_every: 10
  execution.checkpoint_every: 1
space: {{scoring.alpha: [1.0, 1.5]}}
"""


def write_sweep(folder: Path, steps: int) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(SWEEP.format(steps=steps))
    return path


def ear(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([EAR, *map(str, arguments)], capture_output=True, text=True, timeout=300)


def runs_of(root: Path) -> tuple[list[Any], list[Any]]:
    """Parents and children of the sweep in MLflow."""
    client = mlflow.MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    return [run for run in runs if run not in children], children


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The sweep's file and its root, after a complete run."""
    folder = tmp_path_factory.mktemp("sweep")
    sweep, root = write_sweep(folder, 40), folder / "runs"
    done = ear("sweep", "run", sweep, "--root", root)
    assert done.returncode == 0, done.stderr
    assert "2 runs done now" in done.stdout
    return sweep, root


def test_every_run_is_in_mlflow_with_all_that_it_is(finished: tuple[Path, Path]) -> None:
    parents, children = runs_of(finished[1])
    assert [run.info.status for run in parents] == ["FINISHED"]
    assert [run.info.status for run in children] == ["FINISHED"] * 2
    client = mlflow.MlflowClient(f"sqlite:///{finished[1] / 'mlflow.db'}")
    for run in children:
        assert run.data.tags["mlflow.parentRunId"] == parents[0].info.run_id
        assert {"fid", "is", "precision", "recall", "fid_null", "train_seconds"} <= run.data.metrics.keys()
        assert {"ear.extractor", "ear.git_commit", "ear.versions", "ear.processor"} <= run.data.tags.keys()
        assert run.data.params["training.stages.0.steps"] == "40"
        curve = client.get_metric_history(run.info.run_id, "loss")
        assert sorted(point.step for point in curve) == [10, 20, 30, 40, 50]
        artifacts = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
        assert {"samples.png", "samples_null.png", "evaluation.json", "config.yaml", "logs"} <= artifacts


def test_the_same_command_again_trains_nothing(finished: tuple[Path, Path]) -> None:
    sweep, root = finished
    before = {path: path.stat().st_mtime_ns for path in (root / "store").rglob("*") if path.is_file()}
    again = in_process.ear("sweep", "run", sweep, "--root", root)
    assert "0 runs done now, 2 were already in the store" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in (root / "store").rglob("*") if path.is_file()} == before
    parents, children = runs_of(root)
    assert (len(parents), len(children)) == (1, 2)


def test_a_lost_mlflow_is_filled_anew_from_the_store(finished: tuple[Path, Path], tmp_path: Path) -> None:
    sweep, root = finished
    shutil.copytree(root / "store", tmp_path / "store")
    again = in_process.ear("sweep", "run", sweep, "--root", tmp_path)
    assert "0 runs done now" in again.stdout

    def results(folder: Path) -> list[dict[str, float]]:
        return sorted((run.data.metrics for run in runs_of(folder)[1]), key=lambda metrics: metrics["fid"])

    assert results(tmp_path) == results(root)


def test_plan_and_report(finished: tuple[Path, Path]) -> None:
    sweep, root = finished
    plan = json.loads(ear("sweep", "plan", sweep, "--root", root, "--json").stdout)
    assert (plan["runs"], plan["training_nodes"], plan["training_steps"]) == (2, 4, 100)
    assert {run["state"] for run in plan["run_list"]} == {"evaluated"}
    report = ear("report", "tiny", "--root", root)
    assert report.returncode == 0, report.stderr
    folder = root / "tiny" / "report"
    names = {path.name for path in folder.iterdir()}
    assert names == {"table.md", "table.csv", "table.tex", "report.html", "figures"}
    plots = {path.name for path in (folder / "figures").iterdir()}
    drawn = ("alpha", "samples", "training")
    assert plots == {"captions.md", *(f"{name}.{kind}" for name in drawn for kind in ("png", "pdf"))}
    table = (folder / "table.md").read_text()
    assert all(text in table for text in ("230.3", "digits-classifier", "200 generated images", "digits/train"))


def test_a_sheet_drawn_anew_shows_the_images_that_were_measured(
    finished: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a guidance of 1 and a rounding error: the same noise, orders and classes."""
    _, root = finished
    monkeypatch.setattr("analysis.plots.sample_images.GUIDANCE", 1 + 1e-7)
    monkeypatch.setattr("analysis.plots.sample_images.MOST_SECONDS", 1e9)  # however slow the machine was just then
    results, store = load_results("tiny", root), Store(root, reading=True)
    for run in results.frame.to_dict("records"):
        stored, drawn = sample_images(results, run, store), guided_images(run, store, 10, 10)
        assert stored is not None
        assert drawn is not None
        np.testing.assert_allclose(drawn.labelled.astype(int), stored.labelled, atol=1)
        np.testing.assert_array_equal(drawn.unlabelled, stored.unlabelled)
    real = real_images(run, store, 10, 10)
    assert real is not None
    assert real.shape == (10, 10, 8, 8, 3)


def start(sweep: Path, root: Path) -> "subprocess.Popen[str]":
    """The sweep in a process group of its own, once it has trained and saved a checkpoint."""
    started = time.time()
    process = subprocess.Popen(
        [EAR, "sweep", "run", str(sweep), "--root", str(root)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.rstrip().endswith(": training"):
            break
    deadline = time.monotonic() + 60
    while not any(saved > started for saved in times_of_checkpoints(root)):
        assert time.monotonic() < deadline, "no checkpoint appeared"
        time.sleep(0.05)
    return process


def times_of_checkpoints(root: Path) -> list[float]:
    times = []
    for path in (root / "store" / ".work").glob("*/checkpoint.safetensors"):
        with suppress(FileNotFoundError):  # its training ended in this moment
            times.append(path.stat().st_mtime)
    return times


def assert_whole(root: Path) -> None:
    """Every run once, none left RUNNING, and no curve point twice."""
    parents, children = runs_of(root)
    assert [run.info.status for run in [*parents, *children]] == ["FINISHED"] * 3
    client = mlflow.MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    for run in children:
        steps = sorted(point.step for point in client.get_metric_history(run.info.run_id, "loss"))
        assert steps == list(range(10, 411, 10))


def test_interrupted_and_killed_and_run_again(digits_store: Path, tmp_path: Path) -> None:
    sweep, root = write_sweep(tmp_path, 400), tmp_path / "runs"
    shutil.copytree(digits_store, root / "store")
    process = start(sweep, root)
    process.send_signal(signal.SIGINT)
    _, messages = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"Resume with:  ear sweep run {sweep}" in messages
    parents, children = runs_of(root)
    assert "RUNNING" not in {run.info.status for run in [*parents, *children]}

    process = start(sweep, root)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    done = ear("sweep", "run", sweep, "--root", root)
    assert done.returncode == 0, done.stderr
    assert_whole(root)
