"""How long commands take that compute nothing, and how long a sweep takes to its first training step."""

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROUNDS = 5
EAR = [sys.executable, "-m", "ear"]
SWEEP = """
name: tiny
base: digits
set: {training.stages.0.steps: 40, evaluation.images: 20, evaluation.null_images: 20}
space: {scoring.alpha: [1.0, 1.25]}
"""
FIRST_STEP_AIM = 18.0  # seconds, on two cores
FIRST_STEP = re.compile(r": (training|finished)$", re.MULTILINE)


def start_up() -> None:
    with tempfile.TemporaryDirectory(prefix="ear-bench-") as given:
        folder = Path(given)
        (folder / "tiny.yaml").write_text(SWEEP)
        (folder / "wrong.yaml").write_text(SWEEP.replace("space", "spaec"))
        # What is remembered from one command to the next is computed by the first of them.
        environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache"), "EAR_ROOT": str(folder / "runs")}
        first_plan(folder, environment)
        first_step(folder, environment)
        report(
            "a bare interpreter", [timed([sys.executable, "-c", ""], folder, environment) for _ in range(ROUNDS)], None
        )
        for name, arguments, aim in (
            ("ear --help", ["--help"], None),
            ("wrong YAML", ["sweep", "plan", "wrong.yaml"], 0.5),
            ("ear sweep plan", ["sweep", "plan", "tiny.yaml"], 1.5),
            ("ear sweep status", ["sweep", "status", "tiny.yaml"], 1.5),
            ("ear store list", ["store", "list"], 1.5),
            ("ear sweep run, nothing to do", ["sweep", "run", "tiny.yaml"], 3.0),
            ("ear report", ["report", "tiny"], None),
        ):
            code = 2 if "wrong.yaml" in arguments else 0
            report(name, [timed([*EAR, *arguments], folder, environment, code) for _ in range(ROUNDS)], aim)


def first_plan(folder: Path, environment: dict[str, str]) -> None:
    """The one that finds nothing remembered."""
    seconds = timed([*EAR, "sweep", "plan", "tiny.yaml"], folder, environment)
    report("ear sweep plan, for the first time", [seconds], None)


def first_step(folder: Path, environment: dict[str, str]) -> None:
    """From `ear sweep run` in an empty store until a trial reports that it trains."""
    started = time.perf_counter()
    command = [*EAR, "sweep", "run", "tiny.yaml"]
    with subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True) as driver:
        assert driver.stderr is not None
        seen = next((time.perf_counter() for line in driver.stderr if FIRST_STEP.search(line)), None)
        driver.stderr.read()
    assert driver.returncode == 0, driver.returncode
    assert seen is not None
    report("ear sweep run, to its first training step", [seen - started], FIRST_STEP_AIM)


def timed(command: Sequence[str], folder: Path, environment: dict[str, str], code: int = 0) -> float:
    """Seconds that a command takes, which must end with this exit code."""
    started = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True)
    assert done.returncode == code, done.stderr.decode()
    return time.perf_counter() - started


def report(name: str, seconds: list[float], aim: float | None) -> None:
    median = statistics.median(seconds)
    verdict = "" if aim is None else f", at most {aim:g} s: {'kept' if median <= aim else 'MISSED'}"
    print(f"{name}: {median:.2f} s ({min(seconds):.2f} to {max(seconds):.2f}){verdict}", flush=True)


if __name__ == "__main__":
    start_up()
