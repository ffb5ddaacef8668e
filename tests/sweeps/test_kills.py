"""Twenty kills at random moments, of whatever can be killed: nothing is lost, done twice or left behind."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import optuna
import psutil
import pytest

from ear.config import load_config
from ear.run import Run
from ear.store import Store

EAR = str(Path(sys.executable).parent / "ear")
SET = """
set:
  training.stages.0.steps: 500
  training.stages.1.steps: 100
  optimizer.warmup_steps: 10
  evaluation.images: 200
  evaluation.null_images: 100
  execution.log_every: 10
  execution.checkpoint_every: 1
retries: 100
"""
GRID = f"""
name: grid
{SET}
space:
  scoring.alpha: [1.0, 1.5]
  training.stages.-1.train_temperature: [1.0, 0.9]
  sampling.infer_temperature: [1.0, 0.8]
"""
SEARCH = f"""
name: search
{SET}
search:
  sampler: tpe
  trials: 5
  evaluations: 2
  confirmation: null
  space:
    scoring.alpha: {{uniform: [1.0, 1.9]}}
    sampling.infer_temperature: {{uniform: [0.5, 1.0]}}
"""
KINDS = {  # what to kill -> words of its command line; a trial at work is called by Tune's class, else by ours
    "trial": ("ray::StageTrial", "ray::ResourceTrainable"),
    "raylet": ("raylet/raylet",),
    "gcs": ("gcs_server",),
}
STARTUPS = 0.2  # share of the kills that come before there is a trial
MARK = "EAR_TEST_ROOT"  # environment variable by which a test knows its processes
KILLS = 10  # of each sweep
STEPS_BETWEEN_CHECKPOINTS = 200  # trained in the second between two, and while one is written


def start(sweep: Path, root: Path) -> "subprocess.Popen[str]":
    command = [EAR, "sweep", "run", str(sweep), "--root", str(root)]
    return subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, MARK: str(root)},
    )


def victims(driver: int) -> dict[str, list[int]]:
    """What there is to kill, by kind."""
    try:
        children = psutil.Process(driver).children(recursive=True)
    except psutil.NoSuchProcess:
        return {}
    found: dict[str, list[int]] = {"driver": [driver], "everything": [driver, *(child.pid for child in children)]}
    for child in children:
        try:
            words = " ".join(child.cmdline())
        except psutil.Error:
            continue
        for kind, marks in KINDS.items():
            if any(mark in words for mark in marks):
                found.setdefault(kind, []).append(child.pid)
    return found


def kill(pids: list[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def disturb(sweep: Path, root: Path, kills: int, chance: random.Random) -> dict[str, int]:
    """Starts the sweep again and again and kills something each time; returns what was killed how often."""
    killed: dict[str, int] = {}
    while sum(killed.values()) < kills:
        process = start(sweep, root)
        if chance.random() < STARTUPS:
            time.sleep(chance.uniform(1, 10))
        else:
            wait_for_a_trial(root / sweep.stem / "logs", process)
            time.sleep(chance.uniform(0, 8))
        targets = victims(process.pid)
        if process.poll() is not None:
            return killed  # it finished before it could be killed often enough
        kind = chance.choice([kind for kind in ("driver", "everything", "trial", "raylet", "gcs") if targets.get(kind)])
        kill([chance.choice(targets[kind])] if kind == "trial" else targets[kind])
        killed[kind] = killed.get(kind, 0) + 1
        if kind == "trial":
            time.sleep(chance.uniform(0, 5))  # the driver goes on by itself
        kill(victims(process.pid).get("everything", []))
        process.wait()
        kill_orphans(root)
    return killed


def wait_for_a_trial(logs: Path, driver: "subprocess.Popen[str]") -> None:
    """Until a trial of this driver has said something."""
    started = time.time()
    while driver.poll() is None and not any(log.stat().st_mtime > started for log in logs.glob("*.log")):
        assert time.time() - started < 120, "no trial began"
        time.sleep(0.2)


def wait_for_another_trial(driver: "subprocess.Popen[str]", known: set[int]) -> set[int]:
    """Process ids of this driver's trials, as soon as there are others than those known."""
    started = time.monotonic()
    while not (found := set(victims(driver.pid).get("trial", ())) - known):
        assert driver.poll() is None, "the driver ended"
        assert time.monotonic() - started < 120, "no trial began"
        time.sleep(0.2)
    return found


def kill_orphans(root: Path) -> None:
    """What a killed driver's Ray leaves takes seconds to notice; a machine that went down leaves nothing."""
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == str(root):
                kill([process.pid])
        except psutil.Error:
            continue


def left_running(root: Path) -> list[str]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == str(root):
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


def mlflow_runs(root: Path, name: str) -> list[Any]:
    client = mlflow.MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id]))


def repeated_alone(client: Any, run: Any, store: Store) -> dict[str, float]:
    """The metrics of a run, trained and evaluated again from the configuration that MLflow has of it."""
    again = Run(load_config(client.download_artifacts(run.info.run_id, "config.yaml")), store)
    again.train()
    return again.evaluate().metrics


def steps_repeated(root: Path, name: str) -> Iterator[int]:
    """For each time that a training went on, how many logged steps it did once more."""
    for log in (root / name / "logs").glob("*.log"):
        last = 0
        for line in log.read_text().splitlines():
            if match := re.search(r"from step (\d+)", line):
                yield max(0, last - int(match[1]))
            if match := re.search(r"step (\d+) of", line):
                last = int(match[1])


@pytest.mark.slow
@pytest.mark.parametrize(("name", "text", "runs"), [("grid", GRID, 8), ("search", SEARCH, 15)])
def test_kills_at_random_moments(name: str, text: str, runs: int, digits_store: Path, tmp_path: Path) -> None:
    sweep, root = tmp_path / f"{name}.yaml", tmp_path / "runs"
    sweep.write_text(text)
    killed = disturb(sweep, root, KILLS, random.Random(name))
    process = start(sweep, root)
    _, messages = process.communicate(timeout=600)
    assert process.returncode == 0, messages
    assert left_running(root) == []

    found = mlflow_runs(root, name)
    children = [run for run in found if "ear.key" in run.data.tags]
    keys = [run.data.tags["ear.key"] for run in children]
    lost, duplicated = runs - len(set(keys)), len(keys) - len(set(keys))
    orphaned = sum(run.info.status != "FINISHED" for run in found)
    repeated = list(steps_repeated(root, name))
    print(f"{name}: killed {killed}; lost {lost}, duplicated {duplicated}, orphaned {orphaned}, repeated {repeated}")
    assert sum(killed.values()) == KILLS
    assert (lost, duplicated, orphaned) == (0, 0, 0)
    assert len(found) == runs + 1
    assert max(repeated, default=0) <= STEPS_BETWEEN_CHECKPOINTS
    client = mlflow.MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    for run in children:
        steps = [point.step for point in client.get_metric_history(run.info.run_id, "loss")]
        assert sorted(steps) == list(range(10, 601, 10))
    assert not list((root / "store" / ".work").glob("*/checkpoint.safetensors"))
    if name == "search":
        storage = optuna.storages.JournalStorage(
            optuna.storages.journal.JournalFileBackend(str(root / name / "study.journal"))
        )
        trials = optuna.load_study(study_name=name, storage=storage).trials
        assert [trial.state.name for trial in trials] == ["COMPLETE"] * 15
    # Each run is compared, not the proposals: a search proposes by what it knows, and so by when it knew it.
    shutil.copytree(digits_store, tmp_path / "undisturbed" / "store")
    undisturbed = Store(tmp_path / "undisturbed")
    for run in children:
        alone = repeated_alone(client, run, undisturbed)
        assert {metric: run.data.metrics[metric] for metric in alone} == alone


@pytest.mark.slow
def test_a_driver_goes_on_where_ray_s_own_processes_are_killed(digits_store: Path, tmp_path: Path) -> None:
    sweep, root = tmp_path / "one.yaml", tmp_path / "runs"
    shutil.copytree(digits_store, root / "store")
    sweep.write_text(f"name: one\n{SET.replace('retries: 100', 'retries: 0')}\nspace: {{scoring.alpha: [1.0]}}\n")
    process = start(sweep, root)
    lost: set[int] = set()
    for kind in ("raylet", "gcs"):
        lost |= wait_for_another_trial(process, lost)
        wait_for_a_trial(root / "one" / "logs", process)
        time.sleep(2)  # until there is a checkpoint
        kill(victims(process.pid)[kind])
    _, messages = process.communicate(timeout=300)
    assert process.returncode == 0, messages
    for killed in ("raylet", "gcs_server"):
        assert f"Ray's process {killed} was killed (SIGKILL): restarting it" in messages
    assert {run.info.status for run in mlflow_runs(root, "one")} == {"FINISHED"}
    deadline = time.monotonic() + 20  # a worker whose Ray was killed ends by itself
    while left := left_running(root):
        assert time.monotonic() < deadline, left
        time.sleep(0.5)
    assert max(steps_repeated(root, "one")) <= STEPS_BETWEEN_CHECKPOINTS
