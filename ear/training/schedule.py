"""The stage and the learning rate of a training step. Steps count from 0."""

import math
from itertools import accumulate

from ear.config.schema import RunConfig, StageConfig


def stage_ends(config: RunConfig) -> list[int]:
    """The number of steps done at the end of each stage."""
    return list(accumulate(config.stage_steps))


def stage_at(config: RunConfig, step: int) -> StageConfig:
    """The stage that step `step` belongs to."""
    for stage, end in zip(config.training.stages, stage_ends(config), strict=True):
        if step < end:
            return stage
    raise AssertionError(f"step {step} is past the last stage")


def learning_rate(config: RunConfig, step: int) -> float:
    """The trunk's learning rate at a step: the stage's rate, after a linear warm-up from 0.

    With a warm-up of w steps, the first step has 1/w of the rate, step w - 1 and later ones the full rate. With the
    cosine schedule, step s of a stage's S steps after the warm-up has (1 + cos(pi s/S))/2 of the rate.
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
