"""Counts parameters, FLOPs and bytes on torch's meta device, which allocates and computes nothing."""

from collections import Counter
from itertools import pairwise
from statistics import NormalDist
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ear.config import RunConfig
from ear.model import ImageModel, cosine_schedule, empty_model
from ear.model.masking import masked_count
from ear.tokenizers import build_tokenizer

META = torch.device("meta")
BYTES_PER_PARAMETER = 20  # float32 weight, gradient, AdamW's two moments, EMA


class Counts(NamedTuple):
    """The fields of `ear.cost.Cost` that depend on shapes only."""

    tokens: int
    token_dim: int
    trunk_parameters: int
    head_parameters: int
    training_flops: float
    sampling_flops: float
    training_bytes: float
    activation_bytes: float


def count(config: RunConfig) -> Counts:
    """Count a configuration's parameters, FLOPs and bytes, which depend only on its shapes."""
    tokenizer = build_tokenizer(config)
    with META:
        model = empty_model(config, tokenizer.tokens, tokenizer.token_dim, config.data.classes)
    masked = masked_count(tokenizer.tokens, mean_mask_ratio(config))
    training_flops, activation_bytes = _training_step(model, tokenizer.tokens, tokenizer.token_dim, masked)
    parameters = {
        name: sum(p.numel() for p in part.parameters()) for name, part in (("trunk", model.trunk), ("rule", model.rule))
    }
    return Counts(
        tokens=tokenizer.tokens,
        token_dim=tokenizer.token_dim,
        trunk_parameters=parameters["trunk"],
        head_parameters=parameters["rule"],
        training_flops=training_flops,
        sampling_flops=_sampling(model, tokenizer.tokens, tokenizer.token_dim, config),
        training_bytes=BYTES_PER_PARAMETER * sum(parameters.values()),
        activation_bytes=activation_bytes,
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
