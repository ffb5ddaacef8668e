"""Whole sweeps on disks that are full or read-only, with two drivers, and stopped from outside (minutes)."""

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
import pytest

EAR = str(Path(sys.executable).parent / "ear")
SWEEP = """
name: faults
set:
  training.stages.0.steps: {steps}
  training.stages.1.steps: 20
  optimizer.warmup_steps: 10
  evaluation.images: 200
  evaluation.null_images: 100
  execution.log_every: 10
  execution.checkpoint_every: 1
space:
  scoring.alpha: [1.0, 1.5]
  training.stages.-1.train_temperature: [1.0, 0.9]
  sampling.infer_temperature: [1.0, 0.8]
"""
NODES, RUNS = 6, 8

pytestmark = pytest.mark.slow


def write_sweep(folder: Path, steps: int = 100) -> Path:
    path = folder / "faults.yaml"
    path.write_text(SWEEP.format(steps=steps))
    return path


def ear(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([EAR, *map(str, arguments)], capture_output=True, text=True, timeout=400)


def assert_whole(root: Path) -> None:
    client = mlflow.MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("faults")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert [run.info.status for run in runs] == ["FINISHED"] * (RUNS + 1)
    assert len({run.data.tags.get("ear.key") for run in runs}) == RUNS + 1


def beginnings(root: Path) -> list[int]:
    """At which steps trainings began or went on, by their logs."""
    logs = (root / "faults" / "logs").glob("*.log")
    return [int(step) for log in logs for step in re.findall(r"from step (\d+)", log.read_text())]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, of 12 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_stops_the_sweep_and_loses_nothing(small_disk: Path, tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path)
    full = ear("sweep", "run", sweep, "--root", small_disk)
    assert full.returncode in (1, 2), full.stderr
    assert "No space left" in full.stderr
    assert "Traceback" not in full.stderr.replace("traceback", "")
    published = {path: path.stat().st_mtime_ns for path in (small_disk / "store").glob("*/entry.json")}
    subprocess.run(["mount", "-o", "remount,size=300m", str(small_disk)], check=True)
    again = ear("sweep", "run", sweep, "--root", small_disk)
    assert again.returncode == 0, again.stderr
    assert all(path.stat().st_mtime_ns == then for path, then in published.items())
    assert_whole(small_disk)


def test_a_read_only_store_is_refused_before_anything_begins(small_disk: Path, tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    refused = ear("sweep", "run", sweep, "--root", small_disk / "runs")
    assert refused.returncode == 2
    assert "can't be written (Read-only file system)" in refused.stderr


def test_two_drivers_at_once_share_the_work(tmp_path: Path) -> None:
    sweep, root = write_sweep(tmp_path), tmp_path / "runs"
    command = [EAR, "sweep", "run", str(sweep), "--root", str(root)]
    drivers = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for driver in drivers:
        _, messages = driver.communicate(timeout=400)
        assert driver.returncode == 0, messages
    assert_whole(root)
    assert sorted(beginnings(root)) == [0] * 2 + [100] * 4  # every node once


def test_status_stop_and_resume(digits_store: Path, tmp_path: Path) -> None:
    sweep, root = write_sweep(tmp_path, steps=1500), tmp_path / "runs"
    shutil.copytree(digits_store, root / "store")
    assert ear("sweep", "resume", sweep, "--root", root).returncode == 2  # there is nothing to go on with
    driver = subprocess.Popen(
        [EAR, "sweep", "run", str(sweep), "--root", str(root)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not list((root / "store" / ".work").glob("*/checkpoint.safetensors")):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    time.sleep(3)
    status = ear("sweep", "status", sweep, "--root", root).stdout
    assert re.search(r": 8 runs: .*\btraining", status)
    assert f"process {driver.pid}" in status
    assert re.search(r"alpha=1.0 seed=0 stage 1/2 +training +\d+/1500", status)
    assert "Asked to stop" in ear("sweep", "stop", sweep, "--root", root).stdout
    _, messages = driver.communicate(timeout=30)
    assert driver.returncode == 1
    assert "ear sweep stop" in messages
    assert "No driver is running. 2 unfinished stages resume" in ear("sweep", "status", sweep, "--root", root).stdout
    assert not list((root / "faults" / "drivers").iterdir())
    sweep.write_text(SWEEP.format(steps=1500))
    assert ear("sweep", "resume", sweep, "--root", root).returncode == 0
    assert_whole(root)
    assert len([step for step in beginnings(root) if step == 0]) == 2  # stage 1 of both alphas, never anew


def workspace(root: Path) -> Path:
    """The folder of a training that has saved a checkpoint, once there is one."""
    deadline = time.monotonic() + 120
    while not (checkpoints := list((root / "store" / ".work").glob("*/checkpoint.safetensors"))):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return checkpoints[0].parent


@contextmanager
def in_the_way(place: Path) -> Iterator[None]:
    """A disk of its own where a trained stage is to be published: nothing can be moved from it into the store."""
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        (place / "file").touch()
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)
        place.rmdir()


def wait_for_a_traceback(log: Path) -> None:
    deadline = time.monotonic() + 120
    while "Traceback" not in log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_an_exception_is_tried_again_from_the_checkpoint(digits_store: Path, tmp_path: Path) -> None:
    sweep, root = write_sweep(tmp_path, steps=1500), tmp_path / "runs"
    shutil.copytree(digits_store, root / "store")
    sweep.write_text(sweep.read_text() + "retries: 1000\n")
    driver = subprocess.Popen([EAR, "sweep", "run", str(sweep), "--root", str(root)], stderr=subprocess.PIPE, text=True)
    key = workspace(root).name
    log = root / "faults" / "logs" / f"{key}.log"
    with in_the_way(root / "store" / key):
        wait_for_a_traceback(log)
    _, messages = driver.communicate(timeout=400)
    assert driver.returncode == 0, messages
    assert_whole(root)
    first, *again = map(int, re.findall(r"from step (\d+)", log.read_text()))
    assert first == 0
    assert again
    assert min(again) > 0


def test_an_exception_that_comes_again_is_recorded_and_the_sweep_goes_on(digits_store: Path, tmp_path: Path) -> None:
    sweep, root = write_sweep(tmp_path, steps=1500), tmp_path / "runs"
    shutil.copytree(digits_store, root / "store")
    sweep.write_text(sweep.read_text() + "retries: 1\n")
    driver = subprocess.Popen([EAR, "sweep", "run", str(sweep), "--root", str(root)], stderr=subprocess.PIPE, text=True)
    key = workspace(root).name
    with in_the_way(root / "store" / key):
        _, messages = driver.communicate(timeout=400)
    assert driver.returncode == 1
    assert "4 runs failed" in messages
    assert (root / "faults" / "logs" / f"{key}.log").read_text().count("from step") == 2  # one retry
    client = mlflow.MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("faults")
    assert experiment is not None
    children = [run for run in client.search_runs([experiment.experiment_id]) if "ear.key" in run.data.tags]
    assert sorted(run.info.status for run in children) == ["FAILED"] * 4 + ["FINISHED"] * 4
    failed = next(run for run in children if run.info.status == "FAILED")
    traceback = Path(client.download_artifacts(failed.info.run_id, "traceback.txt")).read_text()
    assert str(root / "store" / ".work") in traceback
    status = ear("sweep", "status", sweep, "--root", root).stdout  # the driver is gone
    assert "4 failed" in status
    assert "4 evaluated" in status
    assert str(root / "store" / ".work") in "".join(status.split())
    assert ear("sweep", "run", sweep, "--root", root).returncode == 0  # the cause is gone: tried again
    assert_whole(root)
    assert "failed" not in ear("sweep", "status", sweep, "--root", root).stdout
