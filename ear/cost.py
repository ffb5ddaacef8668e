"""The size and cost of a configuration: parameters, FLOPs, memory, steps, hours.

FLOPs are those of matrix products and attention as torch counts them: two per multiply-add (`ear.flop_count`). Counts
are remembered per shape, since importing torch takes longer than everything else that a plan does.
"""

from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

from ear.config import RunConfig
from ear.config.schema import EnergyConfig, EvaluationConfig, ExecutionConfig, OptimizerConfig, SamplingConfig
from ear.process.user_cache import remembered

SUSTAINED_FLOPS = 2e14
"""Below what was measured on an H200 in bfloat16: 276 (EAR-B) to 334 (EAR-H) TFLOP/s, or 356 to 391 with torch.compile
(docs/imagenet.md)."""


@dataclass(frozen=True)
class Cost:
    """Size and cost of one configuration."""

    tokens: int
    token_dim: int
    trunk_parameters: int
    head_parameters: int
    training_flops: float  # per image: forward and backward, without recomputed activations
    sampling_flops: float  # per image, with the configured steps and guidance
    training_bytes: float  # weights, gradients, optimizer state and EMA
    activation_bytes: float  # per image, float32; about half of it in bfloat16
    training_steps: int
    training_images: int  # over all steps

    @property
    def parameters(self) -> int:
        """Parameters of trunk and head."""
        return self.trunk_parameters + self.head_parameters

    @property
    def total_training_flops(self) -> float:
        """FLOPs of the whole training."""
        return self.training_flops * self.training_images

    def training_hours(self, sustained_flops: float = SUSTAINED_FLOPS) -> float:
        """Device hours of the whole training at this many FLOP/s."""
        return self.total_training_flops / sustained_flops / 3600

    def sampling_hours(self, images: int, sustained_flops: float = SUSTAINED_FLOPS) -> float:
        """Device hours of sampling `images` images at this many FLOP/s."""
        return self.sampling_flops * images / sustained_flops / 3600


def cost(config: RunConfig) -> Cost:
    """Count a configuration's parameters, FLOPs and bytes. Configurations of equal shapes are counted once."""
    same_shapes: dict[str, object] = {
        "seed": 0,
        "optimizer": OptimizerConfig(),
        "training": config.training.model_copy(update={"stages": (), "batch_size": 1}),
        "sampling": SamplingConfig(
            steps=config.sampling.steps,
            cfg=1.0 if config.sampling.cfg == 1 else 2.0,  # guided or not
            denoising_steps=config.sampling.denoising_steps,
        ),
        "evaluation": EvaluationConfig(),
        "execution": ExecutionConfig(),
    }
    if isinstance(config.scoring, EnergyConfig):
        same_shapes["scoring"] = config.scoring.model_copy(update={"alpha": 1.0, "epsilon": 0.0})
    return replace(
        _counted(config.model_copy(update=same_shapes)),
        training_steps=config.total_steps,
        training_images=config.total_steps * config.training.batch_size,
    )


@cache
def _counted(config: RunConfig) -> Cost:
    """Of these shapes; it has no steps."""

    def compute() -> Cost:
        from ear.flop_count import count  # imports torch

        return Cost(**count(config)._asdict(), training_steps=0, training_images=0)

    values = config.model_dump(mode="json")
    return remembered("costs", values, ("torch",), compute, to_json=asdict, from_json=_from_json)


def _from_json(value: Any) -> Cost:
    found = Cost(**value)
    if not all(isinstance(each, int | float) for each in asdict(found).values()):
        raise ValueError("not numbers")
    return found
