"""Speed, measured against a baseline in the same run: `make benchmarks`. Prints figures; judges nothing.

Training: the digits configuration for 800 steps against a plain eager loop (tests/benchmarks/plain.py), in alternating
stretches, since machines drift. Start-up: `ear --help` against a bare interpreter.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from plain import PlainTraining

from ear.config import load_config
from ear.data import load_dataset
from ear.training import Trainer

STEPS, STRETCH = 800, 50
SETTINGS = ["training.stages.0.steps=750", "training.stages.1.steps=50", f"execution.log_every={STRETCH}"]


def seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def spread(values: list[float], unit: str = "") -> str:
    return f"median {statistics.median(values):.3f}{unit} (min {min(values):.3f}, max {max(values):.3f})"


def training() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = load_config("digits", SETTINGS)
    dataset = load_dataset(config.data)
    ours, plain = Trainer(config, dataset), PlainTraining(Trainer(config, dataset))
    plain_losses: list[float] = []
    ours_seconds, plain_seconds = [], []
    for _ in range(STEPS // STRETCH):
        plain_seconds.append(seconds(lambda: plain_losses.extend(plain.train_step() for _ in range(STRETCH))))
        ours_seconds.append(seconds(ours.advance))
    ratios = [plain / our for plain, our in zip(plain_seconds, ours_seconds, strict=True)]
    print(f"training, {STEPS} steps on one thread: ours {sum(ours_seconds):.1f} s, plain {sum(plain_seconds):.1f} s")
    print(f"  plain / ours by stretch of {STRETCH} steps: {spread(ratios)}")
    last = statistics.mean(plain_losses[-STRETCH:])
    print(f"  mean loss of the last {STRETCH}: ours {ours.history[-1].loss:.3f}, plain {last:.3f}")


def start_up() -> None:
    ear = str(Path(sys.executable).parent / "ear")
    commands = {"bare": [sys.executable, "-c", ""], "ear --help": [ear, "--help"]}
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(10):
        for name, command in commands.items():
            times[name].append(seconds(lambda: subprocess.run(command, check=True, capture_output=True)))  # noqa: B023
    above = [help_ - bare for help_, bare in zip(times["ear --help"], times["bare"], strict=True)]
    print(f"`ear --help` above a bare interpreter: {spread(above, ' s')}")


if __name__ == "__main__":
    start_up()
    training()
