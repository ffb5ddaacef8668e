"""Speed on a GPU, and whether it computes what a CPU does: `make benchmarks-on-gpu`. Prints a table; writes JSON.

Training reads synthetic latents of KL-16's shape through the loader of real ones, 256 images a step, which is one
card's share of 2,048 images on eight. MFU is the FLOPs of `ear info`, without recomputed activations, over the card's
own rate in bfloat16 matrix products, measured first. Sampling begins with class labels and ends with tokens: the
autoencoder's decoder is not in it. Weights are random: speed does not depend on what they have learnt.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from gpu_equality import equality
from loader import write_cache
from torch import Tensor

from ear.config import RunConfig, load_config
from ear.config.schema import DenoiserConfig, EnergyConfig, HyvarinenConfig, SamplingConfig
from ear.cost import cost
from ear.model import ImageModel, empty_model
from ear.process.execution import autocast, set_up, to_device
from ear.sampling import balanced_labels, generate, image_randomness
from ear.tokenizers import build_tokenizer
from ear.training.token_data import LatentTokens
from ear.training.trainer import Trainer

Row = dict[str, Any]


@dataclass(frozen=True)
class Training:
    """A training to be timed: `execution` overrides the configuration's."""

    name: str
    execution: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Sampling:
    """A generation to be timed."""

    name: str
    images: int
    rule: str = "energy"
    steps: int = 64
    compile: bool = False


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
        *(Sampling(B, images, "hyvarinen", steps=256) for images in (1, 8, 64)),
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


def synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds(action: Callable[[], object]) -> float:
    synchronise()
    started = time.perf_counter()
    action()
    synchronise()
    return time.perf_counter() - started


def measured(values: list[float]) -> Row:
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "rounds": len(values)}


def matrix_rate(side: int, device: torch.device) -> float:
    """FLOP/s in bfloat16 products of random matrices: the median of ten, after three that warm up."""
    one, other = torch.randn(2, side, side, device=device).bfloat16()
    times = [seconds(lambda: one @ other) for _ in range(13)]
    return 2 * side**3 / statistics.median(times[3:])


def add_noise(model: ImageModel) -> None:
    """Add noise to the weights, since many are initialised with 0, and products with zeros run faster."""
    generator = torch.Generator(next(model.parameters()).device).manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator, device=parameter.device)


@contextmanager
def latents(config: RunConfig, images: int) -> Iterator[LatentTokens]:
    """Training data: a cache of random moments in KL-16's shape."""
    tokenizer: Any = build_tokenizer(config)
    channels, height, width = tokenizer.latent_shape
    with tempfile.TemporaryDirectory() as folder:
        labels = torch.arange(images) * config.data.classes // images
        cache = write_cache(Path(folder), labels, config.data.classes, (2 * channels, height, width))
        dataset: Any = SimpleNamespace(cache=cache, classes=config.data.classes, content_hash=lambda: "")
        yield LatentTokens(dataset, tokenizer)


def train(case: Training, plan: Plan, device: torch.device, rate: float) -> Row:
    """Images a second, MFU and memory of one training."""
    config = load_config(
        case.name,
        [
            *plan.overrides,
            f"training.batch_size={plan.batch}",
            "execution.log_every=1",
            *(f"execution.{key}={json.dumps(value)}" for key, value in case.execution.items()),
        ],
    )
    torch._dynamo.reset()
    with latents(config, max(2048, plan.batch)) as data:
        trainer = Trainer(config, data, device=device)
        add_noise(trainer.model)
        warm_up = seconds(lambda: [trainer.advance() for _ in range(plan.steps)])
        # Then the same steps again: cuDNN plans its attention anew for each number of masked positions, about 0.1 s for
        # each of 77, once in a process.
        trainer.step = 0
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        times = [seconds(trainer.advance) for _ in range(plan.steps)]
    assert trainer.diverged_at is None
    speed = measured([plan.batch / taken for taken in times])
    flops = cost(config).training_flops * speed["median"]
    return {
        "images_per_second": speed,
        "tflops": flops / 1e12,
        "mfu": flops / rate,
        "gigabytes": torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else None,
        "warm_up_seconds": warm_up,
    }


class Stopwatch:
    """Adds up the device's time between pairs of marks in its queue."""

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._pairs: list[tuple[Any, Any]] = []

    def timed(self, action: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """The same action, timed at every call."""

        def call(*arguments: Any, **options: Any) -> Tensor:
            begin = self._mark()
            result = action(*arguments, **options)
            self._pairs.append((begin, self._mark()))
            return result

        return call

    def _mark(self) -> Any:
        if not self._on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def take(self) -> float:
        """Seconds since the last call of this method."""
        synchronise()
        pairs, self._pairs = self._pairs, []
        if self._on_gpu:
            return float(sum(begin.elapsed_time(end) for begin, end in pairs)) / 1e3
        return float(sum(end - begin for begin, end in pairs))


def sampling_config(case: Sampling, plan: Plan) -> RunConfig:
    """The diffusion loss gets a denoiser of the generator's size."""
    config = load_config(case.name, [*plan.overrides, f"sampling.steps={case.steps}"])
    if case.rule == "hyvarinen":
        assert isinstance(config.scoring, EnergyConfig)
        head = config.scoring.generator
        scoring = HyvarinenConfig(denoiser=DenoiserConfig(width=head.width, depth=head.depth))
        return config.model_copy(update={"scoring": scoring})
    return config


def sample(case: Sampling, plan: Plan, device: torch.device) -> Row:
    """Seconds an image, and the head's share of them."""
    config = sampling_config(case, plan)
    tokenizer = build_tokenizer(config)
    tokens, token_dim = tokenizer.tokens, tokenizer.token_dim
    torch._dynamo.reset()
    with device:
        model = empty_model(config, tokens, token_dim, config.data.classes).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    if case.compile:
        model.compile_parts()
    labels = to_device(balanced_labels(case.images, config.data.classes), device)
    watch = Stopwatch(device)
    model.rule.sample = watch.timed(model.rule.sample)  # type: ignore[method-assign]

    def once(settings: SamplingConfig = config.sampling) -> None:
        orders, noise = image_randomness(model, tokens, 0, range(case.images), settings)
        with autocast(config.execution, device):
            generate(
                model,
                labels,
                to_device(orders, device),
                to_device(noise, device),
                settings,
                token_dim,
                static_shapes=case.compile,
            )

    # The trunk meets all its shapes; a hundred denoising passes need not be waited for twice.
    warm_up = seconds(lambda: once(config.sampling.model_copy(update={"denoising_steps": 2})))
    watch.take()
    whole, head = [], []
    while not whole or (len(whole) < 3 and sum(whole) < plan.longest):
        whole.append(seconds(once))
        head.append(watch.take())
    return {
        "seconds_per_image": measured([taken / case.images for taken in whole]),
        "head_share": sum(head) / sum(whole),
        "warm_up_seconds": warm_up,
    }


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
            row = attempt(lambda: train(case, plan, device, rate))  # noqa: B023
        else:
            row = attempt(lambda: sample(case, plan, device))  # noqa: B023
        rows.append({"kind": type(case).__name__.lower(), **vars(case), **row})
        print(describe(case, row), flush=True)
        if out is not None:  # after each row, since a GPU may be lent for minutes only
            figures = {"card": card, "torch": torch.__version__, "tflops": rate / 1e12, "equality": checks}
            out.write_text(json.dumps({**figures, "rows": rows}, indent=1) + "\n")
    return all(check["difference"] <= check["bound"] for check in checks)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="JSON file for all figures")
    arguments = parser.parse_args()
    gpu = set_up(load_config(B, ["execution.device=cuda"]).execution)
    sys.exit(0 if benchmark(FULL, arguments.out, gpu) else 1)
