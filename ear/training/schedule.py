"""What holds at a step: its stage and its learning rate. Steps count from 0."""

from itertools import accumulate

from ear.config.schema import RunConfig, StageConfig, TrainingConfig


def stage_ends(config: TrainingConfig) -> list[int]:
    """Steps done at the end of each stage."""
    return list(accumulate(stage.steps for stage in config.stages))


def stage_at(config: TrainingConfig, step: int) -> StageConfig:
    """The stage that step `step` belongs to."""
    for stage, end in zip(config.stages, stage_ends(config), strict=True):
        if step < end:
            return stage
    raise AssertionError(f"step {step} is past the last stage")


def learning_rate(config: RunConfig, step: int) -> float:
    """The trunk's learning rate: the stage's, after a linear rise from 0 over the warm-up's steps.

    The first step of a warm-up of w steps trains at 1/w of the rate, step w - 1 and later ones at the full rate.
    """
    warmup = config.optimizer.warmup_steps
    return stage_at(config.training, step).learning_rate * min(1.0, (step + 1) / warmup if warmup else 1.0)
