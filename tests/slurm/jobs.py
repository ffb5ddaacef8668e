"""What the tests do with jobs: submit them as users do, wait, look at what they left."""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import in_process
import mlflow
import psutil
import yaml

from ear.store import Store
from slurm.queue import TaskState, task_states
from slurm.submission import RECORD, JobRecord

EAR = str(Path(sys.executable).parent / "ear")
SWEEP = """
name: {name}
set:
  training.stages.0.steps: {steps}
  training.stages.1.steps: 20
  optimizer.warmup_steps: 10
  evaluation.images: 200
  evaluation.null_images: 100
  execution.log_every: 10
  execution.checkpoint_every: 600       # so that what survives was saved on request
space: {{scoring.alpha: [1.0, 1.5]}}
"""
GANG = "nodes: 2\ncpus_per_node: 1\nhours: 0.5\n"
ARRAY = "cpus_per_node: 1\nhours: 0.5\nsweep: array\ndrivers: 2\n"


def write_sweep(folder: Path, steps: int, name: str = "tiny") -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(SWEEP.format(name=name, steps=steps))
    return path


def write_profile(folder: Path, text: str) -> Path:
    """With a folder for the job's temporary files: a short one, since Ray's sockets lie in it."""
    path = folder / "profile.yaml"
    path.write_text(f"{text}scratch: {tempfile.mkdtemp(prefix='s', dir='/tmp')}\n")
    return path


def ear(*arguments: str | Path, code: int = 0, timeout: float = 400) -> str:
    """What the command prints: on stdout, or on stderr where it is to fail with this exit code."""
    done = subprocess.run([EAR, *map(str, arguments)], capture_output=True, text=True, timeout=timeout)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stderr if code else done.stdout


def submit(*arguments: str | Path, root: Path) -> JobRecord:
    """`ear ... --slurm PROFILE`, which returns at once; `ear encode` takes the root from the environment."""
    known = {path.parent for path in (root / "slurm").glob(f"*/{RECORD}")}
    os.environ["EAR_ROOT"] = str(root)
    try:
        in_process.ear(*arguments)
    finally:
        del os.environ["EAR_ROOT"]
    (folder,) = {path.parent for path in (root / "slurm").glob(f"*/{RECORD}")} - known
    return JobRecord.load(folder / RECORD)


def until(is_so: Callable[[], Any], seconds: float, what: str) -> Any:
    """The first true value."""
    deadline = time.monotonic() + seconds
    while not (value := is_so()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.3)
    return value


def until_over(record: JobRecord, seconds: float = 300) -> list[TaskState]:
    def over() -> list[TaskState]:
        states = list(task_states(record.tasks).values())
        return states if all(state.over for state in states) else []

    try:
        return list(until(over, seconds, f"job {record.id} to be over"))
    except AssertionError as error:
        raise AssertionError(f"{error}\n{output(record)}") from None


def assert_completed(record: JobRecord, seconds: float = 300) -> None:
    states = until_over(record, seconds)
    assert {state.state for state in states} == {"COMPLETED"}, output(record)


def output(record: JobRecord) -> str:
    return "\n".join(f"==> {path.name}\n{path.read_text()[-3000:]}" for path in sorted(record.folder.glob("*.out")))


def until_printed(record: JobRecord, text: str, seconds: float = 200) -> None:
    """Until a task of the job has printed this."""
    try:
        until(lambda: text in output(record), seconds, f"{text!r} to be printed")
    except AssertionError as error:
        raise AssertionError(f"{error}\n{output(record)}") from None


def until_trained(root: Path, name: str, steps: int, seconds: float = 200) -> None:
    """Until some trial of the sweep has said that it did at least so many steps."""

    def trained() -> bool:
        texts = [log.read_text() for log in (root / name / "logs").glob("*.log")]
        return any(int(step) >= steps for text in texts for step in re.findall(r"step (\d+) of", text))

    until(trained, seconds, f"{steps} steps")


def slurm(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def processes_of(record: JobRecord, of_kind: str = "") -> list[psutil.Process]:
    """The processes that a job started and that live, their command lines holding a text."""
    ids = {record.id, *jobs_of_array(record)}
    found = []
    for process in psutil.process_iter():
        try:
            told = process.environ()
            ours = told.get("SLURM_JOB_ID") in ids and told.get("SLURM_CONF") == os.environ["SLURM_CONF"]
            if ours and process.status() != psutil.STATUS_ZOMBIE and of_kind in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def jobs_of_array(record: JobRecord) -> set[str]:
    """SLURM_JOB_ID of its members, which differ from the array's."""
    listed = slurm("squeue", "--noheader", "--array", "--states=all", f"--jobs={record.id}", "--Format=JobID")
    return set(listed.split())


def assert_nothing_left(record: JobRecord, root: Path) -> None:
    """No process, no lease, no token, no temporary folder, no run that MLflow believes to be running."""
    try:
        until(lambda: not processes_of(record), 20, "the job's processes to be gone")
    except AssertionError as error:
        raise AssertionError(f"{error}: {[process.cmdline() for process in processes_of(record)]}") from None
    assert not list((root / "store" / ".work" / "leases").glob("*.lease"))
    assert not list(record.folder.glob("token*"))
    scratch = Path(yaml.safe_load(Path(record.profile).read_text())["scratch"])
    assert not list(scratch.glob("ear-*"))  # torch leaves a folder of its own there


def mlflow_runs(root: Path, name: str = "tiny") -> tuple[list[Any], list[Any]]:
    """Parents and children of the sweep."""
    client = mlflow.MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    return [run for run in runs if run not in children], children


MEASURED = ("fid", "is", "precision", "recall", "fid_null", "is_null", "train_steps")


def metrics(root: Path, name: str = "tiny") -> dict[str, dict[str, float]]:
    """What MLflow has of every run, by its key; seconds left out."""
    return {
        run.data.tags["ear.key"]: {metric: run.data.metrics[metric] for metric in MEASURED}
        for run in mlflow_runs(root, name)[1]
    }


def assert_every_run_once(root: Path, count: int, name: str = "tiny") -> None:
    parents, children = mlflow_runs(root, name)
    assert [run.info.status for run in [*parents, *children]] == ["FINISHED"] * (count + 1)
    assert len({run.data.tags["ear.key"] for run in children}) == count


def hosts(root: Path) -> set[str]:
    """Where results were made."""
    store = Store(root)
    return {str(store.entry(key).provenance["host"]) for key in store.published()}


def steps_done_twice(root: Path, name: str = "tiny") -> int:
    """Logged steps that a training did again after it had been stopped."""
    repeated = 0
    for log in (root / name / "logs").glob("*.log"):
        last = 0
        for line in log.read_text().splitlines():
            if match := re.search(r"from step (\d+)", line):
                repeated += max(0, last - int(match[1]))
            if match := re.search(r"step (\d+) of", line):
                last = int(match[1])
    return repeated


def attempts(record: JobRecord) -> int:
    """How often the job's command was begun."""
    texts = [path.read_text() for path in record.folder.glob("attempts-*.json")]
    return sum(len(json.loads(text)) for text in texts)
