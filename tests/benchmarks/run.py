"""Speed, measured against a baseline in the same run: `make benchmarks`. Prints figures; judges nothing.

Baselines and ours take turns, since machines drift: the plain loop and sampler of tests/benchmarks/plain.py, a folder
of npz files for the latents (tests/benchmarks/loader.py). Start-up times have aims (tests/benchmarks/start_up.py).
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from loader import loader
from plain import PlainTraining
from rules import rules
from start_up import start_up
from sweeps_benchmark import sweeps

from ear.config import RunConfig, load_config
from ear.config.schema import SamplingConfig
from ear.data import ImageDataset, Split
from ear.sampling import balanced_labels, generate, image_randomness
from ear.training.token_data import load_token_data
from ear.training.trainer import Trainer


def synthetic(config: RunConfig, images: int = 2048) -> ImageDataset:
    """Random images in the shape of the configuration's: speed does not depend on what they show."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (images, *config.data.image_shape), dtype=torch.uint8, generator=generator)
    split = Split(pixels, torch.arange(images) % config.data.classes)
    return ImageDataset("synthetic", config.data.classes, split, split)


# Name -> configuration, training steps in a stretch, images sampled at once.
SHAPES = {
    "digits (112 k parameters, 16 tokens)": (load_config("digits"), 50, 64),
    "fashion_mnist (49 tokens)": (load_config("fashion_mnist"), 10, 64),
    "6 blocks of width 192, 49 tokens, head 256 x 3": (
        load_config(
            "fashion_mnist",
            [
                "model={width: 192, depth: 6, heads: 6, buffer_tokens: 16}",
                "scoring.generator={width: 256, depth: 3, noise_channels: 64}",
                "training.batch_size=32",
            ],
        ),
        2,
        8,
    ),
}


def seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def spread(values: list[float], unit: str = "") -> str:
    return f"median {statistics.median(values):.3f}{unit} (min {min(values):.3f}, max {max(values):.3f})"


def compare(ours: Callable[[], object], plain: Callable[[], object], rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of both, taking turns."""
    times = [(seconds(plain), seconds(ours)) for _ in range(rounds)]
    return [our for _, our in times], [plain for plain, _ in times]


def report(what: str, ours: list[float], plain: list[float], each: float) -> None:
    ratios = [one / other for one, other in zip(plain, ours, strict=True)]
    print(f"  {what}: ours {statistics.median(ours) / each:.4f} s, plain {statistics.median(plain) / each:.4f} s")
    print(f"    plain / ours: {spread(ratios)}", flush=True)


def training_and_sampling(rounds: int) -> None:
    torch.set_num_threads(1)
    for name, (config, stretch, images) in SHAPES.items():
        torch.manual_seed(0)
        data = synthetic(config)
        config = with_steps(config, (rounds + 1) * stretch, stretch)
        trainer = Trainer(config, load_token_data(config, data))
        plain = PlainTraining(Trainer(config, load_token_data(config, data)), data)
        print(name)

        def plain_stretch(plain: PlainTraining = plain, stretch: int = stretch) -> None:
            for _ in range(stretch):
                plain.train_step()

        trainer.advance()
        plain_stretch()
        report("training, a step", *compare(trainer.advance, plain_stretch, rounds), each=stretch)
        for cfg in (1.0, 3.0):
            sampling(trainer, plain, config.sampling.model_copy(update={"cfg": cfg}), images, rounds)


def with_steps(config: RunConfig, steps: int, log_every: int) -> RunConfig:
    stage = config.training.stages[0].model_copy(update={"steps": steps})
    return config.model_copy(
        update={
            "training": config.training.model_copy(update={"stages": (stage,)}),
            "execution": config.execution.model_copy(update={"log_every": log_every}),
        }
    )


def sampling(trainer: Trainer, plain: PlainTraining, settings: SamplingConfig, images: int, rounds: int) -> None:
    """From class labels to tokens, the drawing of orders and noise included."""
    model, tokens, token_dim = trainer.model.eval(), trainer.tokenizer.tokens, trainer.tokenizer.token_dim
    plain.model.eval()
    labels, steps = balanced_labels(images, trainer.data.classes), min(settings.steps, tokens)

    def ours_once() -> None:
        orders, noise = image_randomness(model, tokens, 0, range(len(labels)), settings)
        generate(model, labels, orders, noise, settings, token_dim)

    def plain_once() -> None:
        plain.model.sample(labels, plain.random_orders(len(labels)), steps, settings.cfg, 0.9, token_dim)

    ours_once()
    what = f"sampling, an image at batch {len(labels)}, {steps} steps, CFG {settings.cfg:g}"
    report(what, *compare(ours_once, plain_once, rounds), each=len(labels))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=16, help="how often the two take turns")
    parser.add_argument("--entries", type=int, default=20_000, help="of the latent cache")
    arguments = parser.parse_args()
    start_up()
    training_and_sampling(arguments.rounds)
    rules()
    loader(arguments.entries)
    sweeps()
