"""Speed, measured against a baseline in the same run: `make benchmarks`. Prints figures; judges nothing.

Training: the digits configuration for 800 steps against a plain eager loop of the same mathematics (the generator at
every position and then a mask, both samples through the whole head, an optimizer and an average that loop over
tensors), in alternating stretches, since machines drift. Start-up: `ear --help` against a bare interpreter.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from ear.config import load_config
from ear.data import load_dataset
from ear.model.masking import mask_from_orders
from ear.training import Trainer
from ear.training.schedule import learning_rate, stage_at

STEPS, STRETCH = 800, 100
SETTINGS = ["training.stages.0.steps=750", "training.stages.1.steps=50", f"execution.log_every={STRETCH}"]


class PlainEagerLoop:
    """The same model, draws and update rule, written down as directly as possible."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.step = 0
        config = trainer.config.optimizer
        self.average = [parameter.detach().clone() for parameter in trainer.model.parameters()]
        groups = [{**group, "params": group["params"]} for group in trainer.optimizer.param_groups]
        for group in groups:
            for option in ("fused", "foreach"):
                group.pop(option, None)
        self.optimizer = torch.optim.AdamW(groups, lr=0.0, betas=config.betas, foreach=False, fused=False)

    def advance(self) -> None:
        for _ in range(STRETCH):
            self.train_step()

    def train_step(self) -> None:
        trainer, config = self.trainer, self.trainer.config
        random = trainer.step_randomness(self.step)
        indices = trainer.order.batch(self.step)
        tokens, labels = trainer.tokens[indices], trainer.labels[indices]
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(config, self.step) * group["lr_scale"]
        model = trainer.model
        mask = mask_from_orders(random.orders, random.masked)
        z = model.trunk(tokens, mask, model.trunk.embed_classes(labels, random.dropped)).flatten(0, 1)
        target = tokens.flatten(0, 1)
        generator = model.rule.generator
        noise = torch.rand(2 * len(z), generator.noise_channels) - 0.5
        one, other = generator(z.repeat(2, 1), noise).chunk(2)
        distances = [(pair[0] - pair[1]).norm(dim=1) for pair in ((one, target), (other, target), (one, other))]
        temperature = stage_at(config.training, self.step).train_temperature
        loss = distances[0] + distances[1] - temperature * distances[2]
        weights = mask.flatten().float()
        loss = (loss * weights).sum() / weights.sum()
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.optimizer.clip_norm, foreach=False)
        self.optimizer.step()
        decay = config.optimizer.ema_decay
        with torch.no_grad():
            for average, parameter in zip(self.average, model.parameters(), strict=True):
                average.mul_(decay).add_(parameter, alpha=1 - decay)
        loss.item()
        self.step += 1


def seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def spread(values: list[float], unit: str) -> str:
    return f"median {statistics.median(values):.3f}{unit} (min {min(values):.3f}, max {max(values):.3f})"


def advance_by(trainer: Trainer, steps: int) -> None:
    """Several intervals where a stage's end cuts one."""
    target = trainer.step + steps
    while trainer.step < target:
        trainer.advance()


def training() -> None:
    torch.set_num_threads(1)
    config = load_config("digits", SETTINGS)
    dataset = load_dataset(config.data)
    ours, plain = Trainer(config, dataset), PlainEagerLoop(Trainer(config, dataset))
    ours_seconds, plain_seconds = [], []
    for _ in range(STEPS // STRETCH):
        plain_seconds.append(seconds(plain.advance))
        ours_seconds.append(seconds(lambda: advance_by(ours, STRETCH)))
    ratios = [plain / our for plain, our in zip(plain_seconds, ours_seconds, strict=True)]
    print(f"training, {STEPS} steps on one thread: ours {sum(ours_seconds):.1f} s, plain {sum(plain_seconds):.1f} s")
    print(f"  plain / ours by stretch of {STRETCH} steps: {spread(ratios, '')}")


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
