"""Images a second of a training on synthetic latents, and how much of the card it uses."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from gpu_clock import Row, measured, seconds
from loader import write_cache

from ear.config import RunConfig, load_config
from ear.cost import cost
from ear.model import ImageModel
from ear.tokenizers import build_tokenizer
from ear.training.token_data import LatentTokens
from ear.training.trainer import Trainer


@dataclass(frozen=True)
class Training:
    """A training to be timed: `execution` overrides the configuration's."""

    name: str
    execution: dict[str, Any] = field(default_factory=dict)


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


def train(case: Training, overrides: tuple[str, ...], batch: int, steps: int, device: torch.device, rate: float) -> Row:
    """Images a second, MFU and memory of one training."""
    config = load_config(
        case.name,
        [
            *overrides,
            f"training.batch_size={batch}",
            "execution.log_every=1",
            *(f"execution.{key}={json.dumps(value)}" for key, value in case.execution.items()),
        ],
    )
    torch._dynamo.reset()
    with latents(config, max(2048, batch)) as data:
        trainer = Trainer(config, data, device=device)
        add_noise(trainer.model)
        warm_up = seconds(lambda: [trainer.advance() for _ in range(steps)])
        # Then the same steps again: cuDNN plans its attention anew for each number of masked positions, about 0.1 s for
        # each of 77, once in a process.
        trainer.step = 0
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        times = [seconds(trainer.advance) for _ in range(steps)]
    assert trainer.diverged_at is None
    speed = measured([batch / taken for taken in times])
    flops = cost(config).training_flops * speed["median"]
    return {
        "images_per_second": speed,
        "tflops": flops / 1e12,
        "mfu": flops / rate,
        "gigabytes": torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else None,
        "warm_up_seconds": warm_up,
    }
