"""A real search through Ray: proposals, further evaluations, early stopping, confirmation, status, report."""

import shutil
import subprocess
import sys
from pathlib import Path

import in_process
import mlflow
import pytest
from mlflow.entities import Run

from ear.store import Store
from sweeps.search.study_summary import ends_without_result, load_study, studied_runs
from sweeps.spec.plan import compile_plan
from sweeps.spec.runs import is_done

EAR = str(Path(sys.executable).parent / "ear")
SEARCH = """
name: found
set:
  training.stages.0.steps: 60
  training.stages.1.steps: 20
  optimizer.warmup_steps: 10
  evaluation.images: 200
  evaluation.null_images: 100
  execution.log_every: 10
search:
  sampler: tpe
  trials: 4
  evaluations: 1
  space:
    scoring.alpha: {uniform: [1.0, 1.9]}
    sampling.infer_temperature: {uniform: [0.5, 1.0]}
  start: [{}]
  early_stopping: {name: asha, every: 20, images: 60, reduction_factor: 2}
  confirmation: {seeds: 2, images: 240}
"""


def ear(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([EAR, *map(str, arguments)], capture_output=True, text=True, timeout=300)


def tracked(root: Path) -> list[Run]:
    """The search's runs in MLflow."""
    client = mlflow.MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("found")
    assert experiment is not None
    return [run for run in client.search_runs([experiment.experiment_id]) if "ear.key" in run.data.tags]


def test_a_search_from_yaml_to_report(digits_store: Path, tmp_path: Path) -> None:
    sweep, root = tmp_path / "found.yaml", tmp_path / "runs"
    shutil.copytree(digits_store, root / "store")
    sweep.write_text(SEARCH)
    done = ear("sweep", "run", sweep, "--root", root)
    assert done.returncode == 0, done.stderr
    assert "Winner, trial" in done.stdout
    assert "(95%) over 2 fresh seeds and 240 images each" in done.stdout

    runs = tracked(root)
    assert {run.info.status for run in runs} == {"FINISHED"}
    roles = [run.data.tags["ear.role"] for run in runs]
    pruned = [run for run in runs if run.data.tags["ear.outcome"] == "pruned"]
    assert roles.count("proposal") == 4
    assert roles.count("extra") == 4 - len(pruned)
    assert roles.count("confirmation") == 2 * min(2, 4 - len(pruned))
    assert all("intermediate" in run.data.metrics for run in runs if run.data.tags["ear.role"] == "proposal")

    again = in_process.ear("sweep", "run", sweep, "--root", root)
    assert "0 runs done now" in again.stdout
    assert f"{len(runs) - len(pruned)} evaluated" in ear("sweep", "status", sweep, "--root", root).stdout
    report = in_process.ear("report", "found", "--root", root)
    assert "over 2 fresh seeds and 240 images each it has" in report.stdout


@pytest.mark.slow
def test_two_drivers_of_one_search_leave_each_run_once(tmp_path: Path) -> None:
    """In MLflow, which one of them writes, as in the study; what is done for one is not done for the other."""
    sweep, root = tmp_path / "found.yaml", tmp_path / "runs"
    sweep.write_text(SEARCH.replace("trials: 4", "trials: 8"))
    command = [EAR, "sweep", "run", str(sweep), "--root", str(root)]
    drivers = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for driver in drivers:
        _, messages = driver.communicate(timeout=400)
        assert driver.returncode == 0, messages
    plan, folder = compile_plan(sweep), root / "found"
    study = load_study("found", folder)
    assert study is not None
    assert {trial.state.name for trial in study.trials} <= {"COMPLETE", "PRUNED"}
    known = {run.keys.evaluation: run for run in studied_runs(plan.sweep, plan.configurations, folder)}
    pruned = {
        key for key, end in ends_without_result(plan.sweep, plan.configurations, folder).items() if end == "pruned"
    }
    done = {key for key, run in known.items() if is_done(run, Store(root))}
    runs = tracked(root)
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert sorted(run.data.tags["ear.key"] for run in runs) == sorted(done | pruned) == sorted(known)
    logs = [log.read_text() for log in (folder / "logs").glob("*.log")]
    assert all(log.count("training stage") == 1 for log in logs if "training stage" in log)
    evaluated = [line for log in logs for line in log.splitlines() if "  evaluating " in line]
    assert len({line.split()[-1] for line in evaluated}) == len(evaluated) == len(done)
