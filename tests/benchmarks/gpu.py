"""Speed on a GPU, and whether it computes what a CPU does: `make benchmarks-on-gpu`. Prints a table; writes JSON.

Training reads synthetic latents of KL-16's shape through the loader of real ones, 256 images a step, which is one
card's share of 2,048 images on eight. MFU is the FLOPs of `ear info`, without recomputed activations, over the card's
own rate in bfloat16 matrix products, measured first. Sampling begins with class labels and ends with tokens: the
autoencoder's decoder is not in it. Weights are random: speed does not depend on what they have learnt. Each half
(--only) takes six to seven minutes on an H200.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from gpu_clock import Row, seconds
from gpu_equality import equality
from gpu_sampling import Sampling, sample
from gpu_training import Training, train

from ear.config import load_config
from ear.process.execution import set_up


@dataclass(frozen=True)
class Plan:
    """What is measured."""

    overrides: tuple[str, ...]
    batch: int  # images of a training step
    steps: int  # of training, done once to warm up and once to be timed
    matrix: int  # side of the matrices whose product gives the card's rate
    longest: float  # seconds of generations after which none is repeated
    training: tuple[Training, ...]
    sampling: tuple[Sampling, ...]


B, L, H = "imagenet256_base", "imagenet256_large", "imagenet256_huge"
RECOMPUTE = {"activation_checkpointing": True}
COMPILE = {"compile": True}
FULL = Plan(
    overrides=(),
    batch=256,
    steps=3,
    matrix=8192,
    longest=3.0,
    training=(
        Training(B, {"micro_batch": 32}),
        Training(B, {"micro_batch": 32, **COMPILE}),
        *(
            Training(name, {"micro_batch": images, **more})
            for name, images in ((B, 128), (L, 64), (H, 32))
            for more in ({}, RECOMPUTE, COMPILE)
        ),
        Training(B, {"micro_batch": 128, **COMPILE, **RECOMPUTE}),
    ),
    sampling=(
        *(Sampling(name, images) for name in (B, L, H) for images in (1, 8, 64)),
        Sampling(B, 256),
        *(Sampling(B, images, compile=True) for images in (1, 64)),
        *(Sampling(B, images, "hyvarinen") for images in (1, 8, 64, 256)),
        *(Sampling(B, images, "hyvarinen", steps=256) for images in (1, 64)),
    ),
)
SMOKE = Plan(
    overrides=(
        "model={width: 32, depth: 2, heads: 2, buffer_tokens: 4, attention_dropout: 0.1, projection_dropout: 0.1}",
        "scoring.generator={width: 32, depth: 1, noise_channels: 8}",
        "data.size=64",
        "data.classes=10",
        "execution.precision=float32",
    ),
    batch=8,
    steps=2,
    matrix=64,
    longest=0.0,
    training=(Training(B, {"micro_batch": 4}), Training(B, {"micro_batch": 8, **RECOMPUTE})),
    sampling=(Sampling(B, 2, steps=3), Sampling(B, 2, "hyvarinen", steps=3)),
)


def matrix_rate(side: int, device: torch.device) -> float:
    """FLOP/s in bfloat16 products of random matrices: the median of ten, after three that warm up."""
    one, other = torch.randn(2, side, side, device=device).bfloat16()
    times = [seconds(lambda: one @ other) for _ in range(13)]
    return 2 * side**3 / statistics.median(times[3:])


def attempt(measure: Callable[[], Row]) -> Row:
    """The measurement, or a row that says that memory ran out."""
    try:
        return measure()
    except torch.OutOfMemoryError:
        return {"failed": "out of memory"}
    finally:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def describe(case: Training | Sampling, row: Row) -> str:
    if isinstance(case, Training):
        what = ", ".join(key if value is True else f"{key} {value}" for key, value in case.execution.items())
    else:
        compiled = ", compile" if case.compile else ""
        what = f"{case.rule}, {case.steps} steps, batch {case.images}{compiled}"
    if "failed" in row:
        return f"{case.name}, {what}: {row['failed']}"
    if isinstance(case, Training):
        speed, memory = row["images_per_second"], row["gigabytes"]
        result = f"{speed['median']:.1f} images/s ({speed['min']:.1f} to {speed['max']:.1f}), MFU {row['mfu']:.1%}"
        result += f", {row['tflops']:.0f} TFLOP/s" + ("" if memory is None else f", {memory:.1f} GB")
    else:
        each = row["seconds_per_image"]
        result = f"{each['median']:.4f} s an image ({each['min']:.4f} to {each['max']:.4f}; {each['rounds']} rounds)"
        result += f", head {row['head_share']:.0%}"
    return f"{case.name}, {what}: {result}"


def benchmark(plan: Plan, out: Path | None, device: torch.device) -> bool:
    """Measures everything. Returns whether the devices agree."""
    card = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(f"{card}, torch {torch.__version__}", flush=True)
    checks = [check._asdict() for check in equality(device, compiled=device.type == "cuda")]
    for check in checks:
        print("{name}: {difference:.3g} (at most {bound:.3g})".format(**check), flush=True)
    rate = matrix_rate(plan.matrix, device)
    print(f"bfloat16 matrix products of side {plan.matrix}: {rate / 1e12:.0f} TFLOP/s", flush=True)
    rows: list[Row] = []
    for case in (*plan.training, *plan.sampling):
        if isinstance(case, Training):
            row = attempt(lambda: train(case, plan.overrides, plan.batch, plan.steps, device, rate))  # noqa: B023
        else:
            row = attempt(lambda: sample(case, plan.overrides, plan.longest, device))  # noqa: B023
        rows.append({"kind": type(case).__name__.lower(), **vars(case), **row})
        print(describe(case, row), flush=True)
        if out is not None:  # after each row, since a GPU may be lent for minutes only
            figures = {"card": card, "torch": torch.__version__, "tflops": rate / 1e12, "equality": checks}
            out.write_text(json.dumps({**figures, "rows": rows}, indent=1) + "\n")
    return all(check["difference"] <= check["bound"] for check in checks)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="JSON file for all figures")
    parser.add_argument("--only", choices=("training", "sampling"), help="half of the figures, in half of the time")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("torch sees no GPU here")
    chosen = FULL
    if arguments.only is not None:
        other = "sampling" if arguments.only == "training" else "training"
        chosen = replace(FULL, **{other: ()})
    gpu = set_up(load_config(B, ["execution.device=cuda"]).execution)
    sys.exit(0 if benchmark(chosen, arguments.out, gpu) else 1)
