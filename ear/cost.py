"""The size and cost of a configuration, counted on torch's meta device, which allocates and computes nothing.

FLOPs are those of matrix products and attention as torch counts them: two per multiply-add.
"""

from collections import Counter
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from statistics import NormalDist

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ear.config import RunConfig
from ear.config.schema import EnergyConfig, EvaluationConfig, ExecutionConfig, OptimizerConfig, SamplingConfig
from ear.model import ImageModel, cosine_schedule, empty_model
from ear.model.masking import masked_count
from ear.tokenizers import build_tokenizer

META = torch.device("meta")
BYTES_PER_PARAMETER = 20  # float32 weight, gradient, AdamW's two moments, EMA
SUSTAINED_FLOPS = 2e14
"""An aim, not a measurement: a quarter of the 7.7e14 to 8.0e14 FLOP/s that an H100 SXM and an H200 reach in bfloat16
matrix products of 8192 x 8192."""


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
        _count(config.model_copy(update=same_shapes)),
        training_steps=config.total_steps,
        training_images=config.total_steps * config.training.batch_size,
    )


@cache
def _count(config: RunConfig) -> Cost:
    tokenizer = build_tokenizer(config)
    with META:
        model = empty_model(config, tokenizer.tokens, tokenizer.token_dim, config.data.classes)
    masked = masked_count(tokenizer.tokens, mean_mask_ratio(config))
    training_flops, activation_bytes = _training_step(model, tokenizer.tokens, tokenizer.token_dim, masked)
    parameters = {
        name: sum(p.numel() for p in part.parameters()) for name, part in (("trunk", model.trunk), ("rule", model.rule))
    }
    return Cost(
        tokens=tokenizer.tokens,
        token_dim=tokenizer.token_dim,
        trunk_parameters=parameters["trunk"],
        head_parameters=parameters["rule"],
        training_flops=training_flops,
        sampling_flops=_sampling(model, tokenizer.tokens, tokenizer.token_dim, config),
        training_bytes=BYTES_PER_PARAMETER * sum(parameters.values()),
        activation_bytes=activation_bytes,
        training_steps=0,
        training_images=0,
    )


def mean_mask_ratio(config: RunConfig) -> float:
    """The mean mask ratio of training: the mean of normal(1, std) truncated to [minimum, 1].

    It is 1 + std (pdf(a) - pdf(0)) / (cdf(0) - cdf(a)) of the standard normal, with a = (minimum - 1)/std.
    """
    std = config.training.mask_ratio_std
    normal, lowest = NormalDist(), (config.training.mask_ratio_min - 1) / std
    inside = 0.5 - normal.cdf(lowest)
    return 1 + std * (normal.pdf(lowest) - normal.pdf(0)) / inside if inside > 0 else config.training.mask_ratio_min


def _training_step(model: ImageModel, tokens: int, token_dim: int, masked: int) -> tuple[float, float]:
    """FLOPs of one image's training step, and the bytes that it keeps for the backward pass."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter):
            storage = tensor.untyped_storage()
            kept[storage._cdata] = storage.nbytes()
            storages.append(storage)  # keep it alive, so that no address is reused
        return tensor

    storages: list[object] = []
    with (
        FlopCounterMode(display=False) as counter,
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        loss = model.train()(
            torch.empty(1, tokens, token_dim, device=META),
            torch.zeros(1, dtype=torch.long, device=META),
            orders=torch.zeros(1, tokens, dtype=torch.long, device=META),
            masked=[(1, masked)],
            dropped=torch.zeros(1, dtype=torch.bool, device=META),
            noise=model.rule.training_noise(masked, torch.Generator()).to(META),
            train_temperature=1.0,
        )
        loss.backward()
    return counter.get_total_flops(), float(sum(kept.values()))


def _sampling(model: ImageModel, tokens: int, token_dim: int, config: RunConfig) -> float:
    """FLOPs of sampling one image. Steps that predict the same number of tokens cost the same and are counted once."""
    sampling = config.sampling
    model.eval().requires_grad_(False)
    counts = cosine_schedule(tokens, min(sampling.steps, tokens))
    copies = 2 if sampling.cfg != 1 else 1
    total = 0.0
    for predicted, steps in Counter(before - after for before, after in pairwise(counts)).items():
        with FlopCounterMode(display=False) as counter:
            z = model.trunk(
                torch.empty(copies, tokens, token_dim, device=META),
                torch.zeros(copies, tokens, dtype=torch.bool, device=META),
                model.trunk.embed_null(copies),
                torch.zeros(copies, predicted, dtype=torch.long, device=META),
            ).flatten(0, 1)
            noise = model.rule.sampling_noise(predicted, torch.Generator(), sampling).to(META)
            z_null = z[predicted:] if copies == 2 else None
            model.rule.sample(z[:predicted], noise, z_null=z_null, cfg=sampling.cfg)
        total += steps * counter.get_total_flops()
    return total
