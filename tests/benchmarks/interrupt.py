"""How long a sweep takes to end after Ctrl-C, and whether anything of it is left running.

python tests/benchmarks/interrupt.py 3
"""

import itertools
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

EAR = str(Path(sys.executable).parent / "ear")
SWEEP = """
name: interrupted
seeds: [{seed}]
set:
  training.stages.0.steps: 20
  training.stages.1.steps: {steps}
  optimizer.warmup_steps: 10
  evaluation.images: 20000
  evaluation.null_images: 100
space: {{scoring.alpha: [1.0, 1.5]}}
"""
LONG, SHORT = 5000, 20
MOMENTS = {  # steps of the second stage, what the sweep says, seconds after that
    "while it loads the dataset": (SHORT, "Loading the dataset", 1),
    "while Ray starts": (SHORT, "Starting Ray", 1),
    "while trials import": (SHORT, "Starting Ray", 6),
    "while it trains": (LONG, "stage 2/2: training", 1),
    "while it evaluates": (SHORT, "evaluating", 1),
}


def interrupting(rounds: int = 3) -> None:
    with tempfile.TemporaryDirectory(prefix="ear-bench-") as folder:
        seeds = itertools.count()
        for moment, (steps, words, later) in MOMENTS.items():
            times, left = [], 0
            for _ in range(rounds):
                seconds, processes = run(Path(folder), SWEEP.format(seed=next(seeds), steps=steps), words, later)
                times.append(seconds)
                left += processes
            print(
                f"Ctrl-C {moment}: over after {statistics.median(times):.1f} s ({min(times):.1f} to "
                f"{max(times):.1f}), {left} processes left",
                flush=True,
            )


def run(root: Path, text: str, words: str, later: float) -> tuple[float, int]:
    """Seconds from Ctrl-C, some time after the sweep has said these words, to its end; processes left then."""
    (root / "sweep.yaml").write_text(text)
    marked = {**os.environ, "EAR_INTERRUPTED": str(root)}  # which everything that it starts inherits
    command = [EAR, "sweep", "run", str(root / "sweep.yaml"), "--root", str(root)]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=marked, start_new_session=True, preexec_fn=heed_interrupts
    ) as driver:
        assert driver.stderr is not None
        for line in driver.stderr:
            if words in line:
                break
        time.sleep(later)
        began = time.perf_counter()
        os.killpg(driver.pid, signal.SIGINT)  # as a terminal does
        driver.communicate()
        seconds = time.perf_counter() - began
        assert driver.returncode == 130, driver.returncode
    return seconds, sum(is_marked(process, str(root)) for process in psutil.process_iter())


def heed_interrupts() -> None:
    """What a shell starts in the background, this benchmark perhaps, ignores them."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def is_marked(process: psutil.Process, root: str) -> bool:
    try:
        return process.environ().get("EAR_INTERRUPTED") == root and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


if __name__ == "__main__":
    interrupting(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
