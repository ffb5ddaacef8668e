"""How far a GPU's results are from a CPU's and from its own, on a model of 100 thousand parameters.

Draws on the CPU are the same on every device, so one step's loss and gradients, and sampled tokens, can be compared.
A training's noise is drawn on the device, so whole trainings are compared on one device.
"""

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ear.config import RunConfig, load_config
from ear.model import build_model
from ear.process.execution import autocast
from ear.sampling import balanced_labels, generate, image_randomness
from ear.training.draws import step_draws
from ear.training.token_data import load_token_data
from ear.training.trainer import Trainer

CPU = torch.device("cpu")
IMAGES = 16
STEPS = 8  # of a training


class Check(NamedTuple):
    """A relative difference |a - b| / |b| and the largest one allowed."""

    name: str
    difference: float
    bound: float


def distance(ours: Iterable[Tensor], reference: Iterable[Tensor]) -> float:
    """|ours - reference| / |reference| over all tensors together, in float64."""
    one, other = (torch.cat([part.detach().cpu().double().flatten() for part in parts]) for parts in (ours, reference))
    return float((one - other).norm() / other.norm())


def small(name: str, *overrides: str) -> RunConfig:
    return load_config(name, ["sampling.cfg=2.0", f"execution.log_every={STEPS // 2}", *overrides])


def one_step(config: RunConfig, device: torch.device) -> tuple[Tensor, list[Tensor], Tensor]:
    """Loss, gradients and sampled tokens of a model with random weights."""
    data = load_token_data(config)
    model = build_model(config, data.tokenizer.tokens, data.tokenizer.token_dim, data.classes)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():  # the initialisation has output 0
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    (draws,) = step_draws(config, model.rule, data, 0, range(IMAGES), CPU)
    tokens = data.tokens(torch.arange(IMAGES), (), CPU)
    model.to(device)
    with autocast(config.execution, device):
        loss = model(
            tokens.to(device),
            data.labels[:IMAGES].to(device),
            orders=draws.orders.to(device),
            masked=[(IMAGES, draws.masked)],
            dropped=draws.dropped.to(device),
            noise=draws.noise.to(device),
            train_temperature=1.0,
        )
    loss.backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    model.eval()
    orders, noise = image_randomness(model, data.tokenizer.tokens, 0, range(IMAGES), config.sampling)
    labels = balanced_labels(IMAGES, data.classes).to(device)
    with autocast(config.execution, device):
        sampled = generate(
            model, labels, orders.to(device), noise.to(device), config.sampling, data.tokenizer.token_dim
        )
    return loss, gradients, sampled


def trained(config: RunConfig, device: torch.device, *, interrupt: bool = False) -> list[Tensor]:
    """The weights and their average after STEPS steps; `interrupt` goes through a checkpoint after half of them."""
    trainer = Trainer(config, load_token_data(config), device=device)
    trainer.advance()
    if interrupt:
        with tempfile.TemporaryDirectory() as folder:
            trainer.save(Path(folder) / "checkpoint.safetensors")
            trainer = Trainer(config, load_token_data(config), device=device)
            trainer.restore(Path(folder) / "checkpoint.safetensors")
    trainer.advance()
    return [*trainer.model.parameters(), *trainer.ema.averages.values()]


def across_devices(device: torch.device) -> list[Check]:
    """Float32 on both, and bfloat16 on the device, against float32 on the CPU."""
    checks = []
    for name in ("digits", "digits_hyvarinen"):
        reference = one_step(small(name), CPU)
        for precision, bounds in (("float32", (1e-5, 1e-4, 1e-3)), ("bfloat16", (3e-2, 1e-1, 3e-1))):
            if (precision, device.type) == ("bfloat16", "cpu"):  # some fifty times slower than float32
                continue
            ours = one_step(small(name, f"execution.precision={precision}"), device)
            for what, one, other, bound in zip(("loss", "gradients", "samples"), ours, reference, bounds, strict=True):
                pair: Any = ([one], [other]) if isinstance(one, Tensor) else (one, other)
                checks.append(Check(f"{name}, {precision}, {what}, against the CPU", distance(*pair), bound))
    return checks


def across_runs(device: torch.device, *, compiled: bool) -> list[Check]:
    """Whole trainings on one device, with dropout: repeated, resumed, compiled."""
    checks = []
    for precision in ("float32", "bfloat16") if device.type == "cuda" else ("float32",):
        overrides = (
            f"execution.precision={precision}",
            "model.attention_dropout=0.1",
            "model.projection_dropout=0.1",
            f"training.stages=[{{steps: {STEPS}, learning_rate: 1.0e-3}}]",
        )
        config = small("digits", *overrides)
        once = trained(config, device)
        checks.append(Check(f"training, {precision}, repeated", distance(trained(config, device), once), 1e-6))
        resumed = trained(config, device, interrupt=True)
        checks.append(Check(f"training, {precision}, resumed", distance(resumed, once), 1e-6))
        if compiled:
            graph = trained(small("digits", *overrides, "execution.compile=true"), device)
            bound = 1e-4 if precision == "float32" else 1e-2
            checks.append(Check(f"training, {precision}, compiled against eager", distance(graph, once), bound))
    return checks


def equality(device: torch.device, *, compiled: bool) -> list[Check]:
    """All checks, on digits. `compiled`: with torch.compile, which takes a minute on a CPU."""
    return [*across_devices(device), *across_runs(device, compiled=compiled)]
