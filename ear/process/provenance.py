"""The provenance of a result: code, libraries and machine."""

import os
import platform
import socket
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

DEVICES = ("nvidia*", "nvhost*", "nvmap", "dxg", "kfd")  # of NVIDIA's GPUs, under WSL 2 too, and of AMD's, in /dev
LIBRARIES = ("ear", "torch", "numpy", "scikit-learn", "torch-fidelity", "ray", "mlflow", "optuna")


@cache
def provenance() -> dict[str, Any]:
    """Git commit (and whether files differ from it), versions, host, processor and accelerator, as JSON values."""
    return {
        "git_commit": git_commit(),
        "python": platform.python_version(),
        "versions": {name: found for name in LIBRARIES if (found := version(name))},
        "host": os.environ.get("SLURMD_NODENAME") or socket.gethostname(),
        "slurm_job": os.environ.get("SLURM_JOB_ID"),
        "processor": processor(),
        "cpus": os.cpu_count(),
        "accelerator": accelerator(),
    }


def git_commit() -> str | None:
    """The checkout's commit, with `+changes` if tracked files differ from it; None outside a checkout."""
    folder = Path(__file__).parent
    try:
        described = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+changes"],
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return described.stdout.strip() or None


def version(name: str) -> str | None:
    """The installed version of a distribution, or None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


@cache
def accelerator() -> str | None:
    """The name of the GPU that torch would use, or None. On Linux without a GPU this does not import torch."""
    if sys.platform == "linux" and not any(any(Path("/dev").glob(device)) for device in DEVICES):
        return None
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


@cache
def processor() -> str:
    """The CPU's name."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
