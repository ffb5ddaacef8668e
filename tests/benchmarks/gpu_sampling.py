"""Seconds an image of a generation, by the energy score or by the diffusion loss on the same trunk."""

from dataclasses import dataclass

import torch
from gpu_clock import Row, Stopwatch, measured, seconds

from ear.config import RunConfig, load_config
from ear.config.schema import DenoiserConfig, EnergyConfig, HyvarinenConfig, SamplingConfig
from ear.model import empty_model
from ear.process.execution import autocast, to_device
from ear.sampling import balanced_labels, generate, image_randomness
from ear.tokenizers import build_tokenizer


@dataclass(frozen=True)
class Sampling:
    """A generation to be timed."""

    name: str
    images: int
    rule: str = "energy"
    steps: int = 64
    compile: bool = False


def sampling_config(case: Sampling, overrides: tuple[str, ...]) -> RunConfig:
    """The diffusion loss gets a denoiser of the generator's size."""
    config = load_config(case.name, [*overrides, f"sampling.steps={case.steps}"])
    if case.rule == "hyvarinen":
        assert isinstance(config.scoring, EnergyConfig)
        head = config.scoring.generator
        scoring = HyvarinenConfig(denoiser=DenoiserConfig(width=head.width, depth=head.depth))
        return config.model_copy(update={"scoring": scoring})
    return config


def sample(case: Sampling, overrides: tuple[str, ...], longest: float, device: torch.device) -> Row:
    """Seconds an image, and the head's share of them."""
    config = sampling_config(case, overrides)
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
    while not whole or (len(whole) < 3 and sum(whole) < longest):
        whole.append(seconds(once))
        head.append(watch.take())
    return {
        "seconds_per_image": measured([taken / case.images for taken in whole]),
        "head_share": sum(head) / sum(whole),
        "warm_up_seconds": warm_up,
    }
