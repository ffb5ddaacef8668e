"""What SLURM adds to a sweep, beside the same sweep without it: until the first training step, and for each trial.

On the two-node cluster of tests/slurm, which takes root where Debian's packages are missing. One trial at a time:
    python tests/benchmarks/slurm_benchmark.py 3
"""

import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

EAR = str(Path(sys.executable).parent / "ear")
CLUSTER = Path(__file__).parents[1] / "slurm" / "cluster"
ALPHAS = [1.0, 1.1, 1.2, 1.3, 1.4, 1.5]
TRIALS = 2 * len(ALPHAS)  # a stage each
SWEEP = f"""
name: overhead
set:
  training.stages.0.steps: 20
  training.stages.1.steps: 10
  optimizer.warmup_steps: 10
  evaluation.images: 100
  evaluation.null_images: 100
space: {{scoring.alpha: {ALPHAS}}}
concurrency: 1
"""
PROFILES = {
    "gang of two nodes": "nodes: 2\ncpus_per_node: 1\nhours: 0.5\n",
    "array's driver": "cpus_per_node: 1\nhours: 0.5\nsweep: array\ndrivers: 1\n",
}
LINE = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)  (.*)$", re.MULTILINE)


def slurm(rounds: int) -> None:
    """Each way in turn, so that all see the same machine."""
    configuration = subprocess.run([CLUSTER, "start"], check=True, capture_output=True, text=True).stdout.strip()
    try:
        ways: dict[str, Callable[[Path], float]] = {"without SLURM": run_here}
        ways |= {name: lambda root, text=text: run_there(root, text, configuration) for name, text in PROFILES.items()}
        measured: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, run in ways.items():
                with tempfile.TemporaryDirectory(prefix="ear-bench-") as folder:
                    (Path(folder) / "overhead.yaml").write_text(SWEEP)
                    measured[name].append(seconds(Path(folder), run(Path(folder))))
    finally:
        subprocess.run([CLUSTER, "stop"], check=True)
    for name, pairs in measured.items():
        first, each = zip(*pairs, strict=True)
        print(f"{name}: {spread(first)} from the start to the first training step, {spread(each)} a trial")


def run_here(root: Path) -> float:
    """Runs the sweep; returns when it began, in seconds since the epoch."""
    began = time.time()
    subprocess.run([EAR, "sweep", "run", root / "overhead.yaml", "--root", root], check=True, capture_output=True)
    return began


def run_there(root: Path, profile: str, configuration: str) -> float:
    """As `run_here`, by a job; it began when SLURM says so."""
    (root / "profile.yaml").write_text(profile)
    command = [
        EAR,
        "sweep",
        "run",
        root / "overhead.yaml",
        "--root",
        root,
        "--slurm",
        root / "profile.yaml",
        "--follow",
    ]
    done = subprocess.run(["env", configuration, *command], check=True, capture_output=True, text=True)
    job = re.findall(r"job (\d+)", done.stdout)[0]
    shown = subprocess.run(
        ["env", configuration, "scontrol", "show", "job", job], check=True, capture_output=True, text=True
    )
    return datetime.fromisoformat(re.findall(r"StartTime=(\S+)", shown.stdout)[0]).timestamp()


def seconds(root: Path, began: float) -> tuple[float, float]:
    """From then to the first training step, and a trial on average, as the trials' logs tell; to a second."""
    lines = [line for log in (root / "overhead" / "logs").glob("*.log") for line in LINE.findall(log.read_text())]
    times = [(datetime.fromisoformat(at).timestamp(), text) for at, text in lines]
    first = min(at for at, text in times if text.startswith("training stage"))
    return first - began, (max(at for at, _ in times) - first) / TRIALS


def spread(values: tuple[float, ...]) -> str:
    return f"{statistics.median(values):.1f} s ({min(values):.1f} to {max(values):.1f})"


if __name__ == "__main__":
    slurm(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
