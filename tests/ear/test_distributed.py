"""Several processes: the same training as one, killed and resumed, and the same evaluation."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from closeness import assert_close
from torch import Tensor

from ear.distributed import ALONE, Processes
from ear.training.checkpoint import load_part

SETTINGS = [
    "training.stages.0.steps=30",
    "training.stages.1.steps=10",
    "training.mask_group=24",
    "execution.log_every=5",
]


def command(processes: int, *arguments: str) -> list[str]:
    python = [sys.executable, "-m"]
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m"]
    return [*python, *(torchrun if processes > 1 else []), "ear", *arguments]


def settings(*more: str) -> list[str]:
    return [part for setting in (*SETTINGS, *more) for part in ("--set", setting)]


def run(processes: int, *arguments: str) -> str:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command(processes, *arguments), capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def train(processes: int, root: Path, *more: str) -> dict[str, Tensor]:
    outcome = json.loads(run(processes, "train", "digits", *settings(*more), "--root", str(root), "--json"))
    return load_part(Path(outcome["checkpoint"]), "model")


def test_shares_are_contiguous_and_complete() -> None:
    for total, count in ((64, 2), (7, 3), (2, 4)):
        shares = [Processes(rank, count).share(total) for rank in range(count)]
        assert [number for share in shares for number in share] == list(range(total))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_alone_everything_is_the_identity() -> None:
    value = torch.tensor(3.0)
    assert ALONE.sum_(value) is value
    assert ALONE.any(True)
    assert not ALONE.any(False)
    assert ALONE.is_main


def test_two_processes_train_as_one_does(tmp_path: Path) -> None:
    """Batch 64 over two processes, in accumulated parts of 20, against one process; then an evaluation of both."""
    one = train(1, tmp_path / "one")
    two = train(2, tmp_path / "two", "execution.micro_batch=20")
    assert_close(two, one)

    checkpoint = next((tmp_path / "two").glob("store/*/checkpoint.safetensors")).parent
    few = ["--set", "evaluation.images=101", "--set", "evaluation.null_images=100", "--json"]
    metrics = [
        json.loads(run(processes, "evaluate", str(checkpoint), *few, "--root", str(tmp_path / str(processes))))
        for processes in (1, 2)
    ]
    assert metrics[0]["metrics"].keys() == metrics[1]["metrics"].keys()
    for name, value in metrics[0]["metrics"].items():
        assert metrics[1]["metrics"][name] == pytest.approx(value, rel=1e-3, abs=0.011), name


def test_killed_processes_go_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    """kill -9 of one of two processes; the same command again ends bit for bit where an undisturbed one ends."""
    more = ["training.stages.0.steps=400", "execution.checkpoint_every=0.01"]
    undisturbed = train(2, tmp_path / "undisturbed", *more)
    root = tmp_path / "killed"
    arguments = command(2, "train", "digits", *settings(*more), "--root", str(root))
    victim = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while not list(root.glob("store/.work/*/checkpoint.safetensors")):
            assert time.monotonic() < deadline
            assert victim.poll() is None
            time.sleep(0.05)
        os.kill(worker_of(victim.pid), signal.SIGKILL)
        _, errors = victim.communicate(timeout=120)
    finally:
        if victim.poll() is None:
            os.killpg(victim.pid, signal.SIGKILL)
    assert victim.returncode != 0
    assert not list(root.glob("store/*/entry.json")), "killed too late: nothing was left to do"
    resumed = train(2, root, *more)
    assert all(torch.equal(resumed[name], value) for name, value in undisturbed.items())


def worker_of(launcher: int) -> int:
    """The process id of torchrun's second worker."""
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    workers = [int(pid) for pid in children if "train" in Path(f"/proc/{pid}/cmdline").read_text()]
    return workers[-1]


def test_a_launcher_without_a_meeting_point_is_named() -> None:
    environment = os.environ | {"WORLD_SIZE": "2"}
    done = subprocess.run(command(1, "train", "digits"), capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 2
    assert re.search("MASTER_ADDR.*torchrun --nproc-per-node", done.stderr)
