"""Trials of two processes, through Ray: what they give, and what happens when one of them dies or all are to stop.

Ray is told of two GPUs, as SLURM would tell; torch sees none, so that the processes exchange gradients by gloo.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from simulated import plan_of

from ear.run import Run
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
space: {{scoring.alpha: [1.0]}}
resources: {{cpus: 1, gpus: 2}}
"""
MARK = "EAR_TEST_ROOT"  # environment variable by which a test knows its processes
TWO_GPUS = {"SLURM_JOB_ID": "1", "SLURM_PROCID": "0", "SLURM_CPUS_ON_NODE": "1", "SLURM_GPUS_ON_NODE": "2"}
BLOCKED = """
import json, os, psutil, time
os.environ["GLOO_SOCKET_IFNAME"] = "eth0"  # as clusters give
from sweeps.trial.helper_processes import TrialProcesses
with TrialProcesses(2).act("advance"):  # for which the helper has no trainer: it fails
    ports = psutil.Process().net_connections("inet")
    print(json.dumps([port.laddr.ip for port in ports if port.status == psutil.CONN_LISTEN]), flush=True)
    time.sleep(60)
"""


class Sweep:
    """The tiny sweep in a folder of its own."""

    def __init__(self, folder: Path, steps: int) -> None:
        self.root = folder / "runs"
        (self.run,) = plan_of(folder, SWEEP.format(steps=steps)).runs
        self._command = [EAR, "sweep", "run", str(folder / "sweep.yaml"), "--root", str(self.root)]

    def start(self) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            self._command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, **TWO_GPUS, MARK: str(self.root), "OMP_NUM_THREADS": "1"},
        )

    def finish(self, driver: "subprocess.Popen[str] | None" = None) -> str:
        """Waits for its end, which has to be a good one; returns its messages."""
        driver = driver or self.start()
        _, messages = driver.communicate(timeout=300)
        assert driver.returncode == 0, messages
        return messages

    def finished(self) -> Run:
        return Run(self.run.config, Store(self.root))

    @property
    def log(self) -> str:
        """What its trials printed; those of the first stage, which are the first, first."""
        logs = sorted((self.root / "tiny" / "logs").glob("*.log"), key=lambda path: path.stat().st_ctime_ns)
        return "".join(path.read_text() for path in logs)

    def processes(self) -> list[tuple[int, int]]:
        """The trial's own process and its helper, as often as there were new ones."""
        found = re.findall(r"2 processes: (\d+), helped by \[(\d+)\]", self.log)
        return [(int(own), int(helper)) for own, helper in found]

    def beginnings(self) -> list[int]:
        """At which steps trainings began or went on."""
        return [int(step) for step in re.findall(r"from step (\d+)", self.log)]

    def helpers(self) -> list[int]:
        """That live."""
        found = []
        for process in psutil.process_iter():
            try:
                ours = process.environ().get(MARK) == str(self.root)
                if ours and "sweeps.trial.helper_processes" in process.cmdline():
                    found.append(process.pid)
            except psutil.Error:
                continue
        return found

    def wait_for_checkpoint(self) -> None:
        wait_until(lambda: any((self.root / "store" / ".work").glob("*/checkpoint.safetensors")))


def wait_until(is_time: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not is_time():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.05)


def test_two_processes_give_what_one_gives(digits_store: Path, tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, steps=40)
    shutil.copytree(digits_store, sweep.root / "store")
    sweep.finish()
    ((own, helper),) = sweep.processes()  # the same for both stages
    assert own != helper
    assert [int(step) for step in re.findall(r"process 2 joins the training at step (\d+)", sweep.log)] == [0, 40]
    assert sweep.log.count("process 2 joins the evaluation") == 1
    assert sweep.helpers() == []

    together, alone = sweep.finished(), Run(sweep.run.config, Store(tmp_path / "alone"))
    for key in (alone.keys.extractor, alone.keys.reference):  # the same for both, and seconds to make
        shutil.copytree(together.store.path(key), alone.store.path(key))
    alone.train()
    for record, expected in zip(together.history(), alone.history(), strict=True):
        assert record.step == expected.step
        assert record.loss == pytest.approx(expected.loss, rel=1e-4)
        assert record.gradient_norm == pytest.approx(expected.gradient_norm, rel=1e-3)
    # Weights that differ by rounding give images whose pixels are rounded the other way here and there.
    evaluation = together.evaluation()
    assert evaluation is not None
    assert evaluation.metrics == pytest.approx(alone.evaluate().metrics, rel=1e-3, abs=0.011)


@pytest.mark.slow
def test_whichever_process_is_killed_the_task_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, steps=400)
    driver = sweep.start()
    sweep.wait_for_checkpoint()
    os.kill(sweep.processes()[0][1], signal.SIGKILL)
    wait_until(lambda: len(sweep.beginnings()) == 2)
    (_, first), (own, second) = sweep.processes()
    assert first != second
    os.kill(own, signal.SIGKILL)
    wait_until(lambda: second not in sweep.helpers(), seconds=5)
    messages = sweep.finish(driver)
    assert messages.count("retrying") == 2
    assert "RuntimeError: The trial's process 2 of 2 was killed (SIGKILL)" in sweep.log
    begun, *continued, last = sweep.beginnings()
    assert (begun, last) == (0, 400)
    assert len(continued) == 2
    assert min(continued) > 0
    assert [record.step for record in sweep.finished().history()] == list(range(10, 411, 10))
    assert sweep.helpers() == []


@pytest.mark.slow
def test_a_stopped_sweep_goes_on_where_it_stopped(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, steps=500)
    driver = sweep.start()
    sweep.wait_for_checkpoint()
    asked = time.monotonic()
    os.killpg(driver.pid, signal.SIGINT)  # as Ctrl-C does: to all processes of the group
    _, messages = driver.communicate(timeout=60)
    assert driver.returncode == 130, messages
    assert time.monotonic() - asked < 30
    assert "stopped" in messages
    assert sweep.helpers() == []
    sweep.finish()
    assert sweep.beginnings()[1] > 0
    assert [record.step for record in sweep.finished().history()] == list(range(10, 511, 10))


def test_a_process_that_waits_for_a_dead_helper_ends() -> None:
    """As one does whose GPU waits for another's. Until then, nobody else reaches it: torch's own store would listen on
    all addresses, and let everybody in."""
    waiting = subprocess.run([sys.executable, "-c", BLOCKED], capture_output=True, text=True, timeout=120)
    assert waiting.returncode == -signal.SIGKILL
    assert "process 2 of 2 ended with exit code 1; see the end of its log" in waiting.stdout
    listening = json.loads(next(line for line in waiting.stdout.splitlines() if line.startswith("[")))
    assert set(listening) == {"127.0.0.1"}
