"""Seconds of sampling an image by the energy score and by the diffusion loss: the paper's tenfold, taken apart.

Equal trunk and head sizes, random weights. At equal autoregressive steps the heads differ: one pass against 100. At
each one's customary steps (64 of EAR, 256 of MAR) the trunk runs four times as often, too.
"""

import torch
from torch import Tensor

from ear.config import RunConfig, load_config
from ear.config.schema import DenoiserConfig, EnergyConfig, GeneratorConfig, HyvarinenConfig, SamplingConfig
from ear.model import build_model
from ear.sampling import balanced_labels, generate, image_randomness

IMAGES, TOKENS, TOKEN_DIM, CLASSES = 2, 256, 16, 1000
WIDTH, DEPTH = 128, 2  # of the heads


def rules() -> None:
    """Prints seconds an image; three rounds of each, taking turns."""
    from run import seconds, spread

    torch.set_num_threads(1)
    base = load_config("digits", ["model={width: 96, depth: 6, heads: 6, buffer_tokens: 64}"])
    energy = EnergyConfig(generator=GeneratorConfig(width=WIDTH, depth=DEPTH, noise_channels=64))
    hyvarinen = HyvarinenConfig(denoiser=DenoiserConfig(width=WIDTH, depth=DEPTH))
    cases = {
        "energy, 64 steps": (sampler(base, energy, 64)),
        "hyvarinen, 64 steps": (sampler(base, hyvarinen, 64)),
        "energy, 256 steps": (sampler(base, energy, 256)),
        "hyvarinen, 256 steps": (sampler(base, hyvarinen, 256)),
    }
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(3):
        for name, case in cases.items():
            times[name].append(seconds(case) / IMAGES)
    print("sampling an image by rule, 256 tokens, CFG 3, trunk 6 blocks of width 96, heads 2 blocks of width 128:")
    for name, values in times.items():
        print(f"  {name}: {spread(values, ' s')}")
    for one, other in (
        ("hyvarinen, 64 steps", "energy, 64 steps"),
        ("hyvarinen, 256 steps", "energy, 256 steps"),
        ("hyvarinen, 256 steps", "energy, 64 steps"),
    ):
        ratios = [slow / fast for slow, fast in zip(times[one], times[other], strict=True)]
        print(f"  {one} / {other}: {spread(ratios)}")


def sampler(base: RunConfig, scoring: EnergyConfig | HyvarinenConfig, steps: int):  # type: ignore[no-untyped-def]
    config = base.model_copy(update={"scoring": scoring})
    model = build_model(config, TOKENS, TOKEN_DIM, CLASSES).eval()
    settings = SamplingConfig(steps=steps, cfg=3.0, denoising_steps=100)
    labels = balanced_labels(IMAGES, CLASSES)

    def sample() -> Tensor:
        orders, noise = image_randomness(model, TOKENS, 0, range(IMAGES), settings)
        return generate(model, labels, orders, noise, settings, TOKEN_DIM)

    return sample
