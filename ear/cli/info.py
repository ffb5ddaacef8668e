"""ear info"""

import json
from typing import Annotated

import typer

from ear.cli.options import Json, Overrides


def info(
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="A shipped name (imagenet256_base) or a YAML file.")],
    overrides: Overrides = [],  # noqa: B006 (typer copies it)
    tflops: Annotated[
        float,
        typer.Option(min=0.001, help="Sustained TFLOP/s of a device, for the hours. An H200 sustained 276 or more."),
    ] = 200.0,
    as_json: Json = False,
) -> None:
    """Print the size and cost of a configuration: parameters, FLOPs, memory, steps, hours. Allocates no weights.

    Example:  ear info imagenet256_huge --tflops 400
    """
    from dataclasses import asdict

    from ear.config import load_config
    from ear.cost import cost
    from ear.terminal.units import quantity, size

    resolved = load_config(config, overrides)
    counted = cost(resolved)
    if as_json:
        print(json.dumps({**asdict(counted), "parameters": counted.parameters}))
        return
    flops, images = tflops * 1e12, resolved.evaluation.images + resolved.evaluation.null_images
    rows = {
        "parameters": f"{counted.parameters:,} (trunk {counted.trunk_parameters:,}, head {counted.head_parameters:,})",
        "tokens": f"{counted.tokens} of {counted.token_dim} values",
        "training": f"{counted.training_steps:,} steps of {resolved.training.batch_size} images = "
        f"{counted.training_images / resolved.data.images:,.1f} epochs of {resolved.data.images:,}",
        "FLOPs": f"{si(counted.training_flops)} per training image, {si(counted.sampling_flops)} per sampled image "
        f"({resolved.sampling.steps} steps, CFG {resolved.sampling.cfg:g})",
        "training memory": f"{size(counted.training_bytes)} for weights, gradients, optimizer and average, and "
        f"{size(counted.activation_bytes)} of activations per image in a micro-batch (execution.micro_batch), "
        "counted in float32; bfloat16 needs less",
        "device hours": f"{quantity(counted.training_hours(flops))} of training, "
        f"{quantity(counted.sampling_hours(images, flops))} of sampling {images:,} images, "
        f"if the device sustains {tflops:g} TFLOP/s",
    }
    width = max(map(len, rows))
    for name, text in rows.items():
        print(f"{name:>{width}}  {text}")


def si(value: float) -> str:
    """Format a number with an SI prefix: 1.23e9 -> "1.23 G"."""
    for prefix, unit in (("E", 1e18), ("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6)):
        if value >= unit:
            return f"{value / unit:.3g} {prefix}"
    return f"{value:.0f} "
