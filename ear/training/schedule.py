"""What holds at a step: its stage and its learning rate. Steps count from 0."""

import math
from itertools import accumulate

from ear.config.schema import RunConfig, StageConfig


def stage_ends(config: RunConfig) -> list[int]:
    """Steps done at the end of each stage."""
    return list(accumulate(config.stage_steps))


def stage_at(config: RunConfig, step: int) -> StageConfig:
    """The stage that step `step` belongs to."""
    for stage, end in zip(config.training.stages, stage_ends(config), strict=True):
        if step < end:
            return stage
    raise AssertionError(f"step {step} is past the last stage")


def learning_rate(config: RunConfig, step: int) -> float:
    """The trunk's learning rate: the stage's, after a linear rise from 0 over the warm-up's steps.

    The first step of a warm-up of w steps trains at 1/w of the rate, step w - 1 and later ones at the full rate. On the
    cosine schedule a stage's step s of S, the warm-up's left out, trains at (1 + cos(pi s/S))/2 of it.
    """
    warmup = config.warmup_steps
    rate = config.peak_learning_rate(stage_at(config, step))
    if step < warmup:
        return rate * (step + 1) / warmup
    if config.training.schedule == "constant":
        return rate
    ends = stage_ends(config)
    end = next(end for end in ends if step < end)
    start = max(([0, *ends])[ends.index(end)], warmup)
    return rate * (1 + math.cos(math.pi * (step - start) / (end - start))) / 2
