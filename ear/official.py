"""Checkpoints of the official EAR project: the same weights under our names.

Source: the authors' public code (ICML 2025, arXiv 2505.07812); its checkpoint holds `model`, `model_ema`, `args`, ...
"""

import argparse
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ear.config.schema import GeneratorConfig, ModelConfig, SamplingConfig, ScoringConfig
from ear.errors import UserError
from ear.model import ImageModel
from ear.model.trunk import MaskedAutoregressiveTransformer
from ear.scoring import build_rule

# Ours on the left, theirs on the right. Shapes agree but for the leading 1s of three of their parameters.
TRUNK_NAMES = {
    "trunk.token_embedding": "z_proj",
    "trunk.class_embedding.weight": "class_emb.weight",
    "trunk.null_class": "fake_latent",
    "trunk.mask_token": "mask_token",
    "trunk.position_embedding": "decoder_pos_embed_learned",
    "trunk.norm": "decoder_norm",
}
BLOCK_NAMES = {
    "attention_norm": "norm1",
    "attention.qkv": "attn.qkv",
    "attention.output": "attn.proj",
    "mlp_norm": "norm2",
    "mlp.expand": "mlp.fc1",
    "mlp.contract": "mlp.fc2",
}
GENERATOR_NAMES = {
    "rule.generator.noise_embedding": "scoreloss.net.noise_embed",
    "rule.generator.condition_embedding": "scoreloss.net.input_proj",
    "rule.generator.output_modulation": "scoreloss.net.final_layer.adaLN_modulation.1",
    "rule.generator.output": "scoreloss.net.final_layer.linear",
}
GENERATOR_BLOCK_NAMES = {
    "norm": "in_ln",
    "modulation": "adaLN_modulation.1",
    "expand": "mlp.0",
    "contract": "mlp.2",
}


@dataclass(frozen=True)
class OfficialCheckpoint:
    model: ImageModel  # in eval mode
    sampling: SamplingConfig  # the settings that the checkpoint was trained to be sampled with
    tokens: int
    token_dim: int


def load_official(path: Path, weights: Literal["model_ema", "model"] = "model_ema") -> OfficialCheckpoint:
    """The model in an official checkpoint, sized by its `args`.

    Raises:
        UserError: the file can't be read safely, or has missing, unexpected or misshapen weights.
    """
    try:
        # The one class besides tensors that the file needs; anything else in it is refused, not executed.
        with torch.serialization.safe_globals([argparse.Namespace]):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        args: dict[str, Any] = vars(checkpoint["args"])
        state: Mapping[str, Tensor] = checkpoint[weights]
    except (OSError, RuntimeError, pickle.UnpicklingError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no checkpoint of the official EAR project: {error}") from error
    side = args["img_size"] // args["vae_stride"] // args["patch_size"]
    token_dim = args["vae_embed_dim"] * args["patch_size"] ** 2
    trunk_config = ModelConfig(
        width=args["decoder_embed_dim"],
        depth=args["decoder_depth"],
        heads=args["decoder_num_heads"],
        buffer_tokens=args["buffer_size"],
        attention_dropout=args.get("attn_dropout", 0.1),
        projection_dropout=args.get("proj_dropout", 0.1),
    )
    rule_config = ScoringConfig(
        alpha=args["alpha"],
        generator=GeneratorConfig(
            width=args["scoreloss_w"], depth=args["scoreloss_d"], noise_channels=args["noise_channels"]
        ),
    )
    trunk = MaskedAutoregressiveTransformer(trunk_config, side * side, token_dim, args["class_num"])
    model = ImageModel(trunk, build_rule(rule_config, trunk_config.width, token_dim))
    model.load_state_dict(translate(state, model.state_dict(), str(path)))
    sampling = SamplingConfig(
        steps=args["num_iter"],
        cfg=args["cfg"],
        cfg_schedule=args["cfg_schedule"],
        infer_temperature=args["infer_temperature"],
    )
    return OfficialCheckpoint(model.eval(), sampling, side * side, token_dim)


def translate(official: Mapping[str, Tensor], ours: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """The official state dict under our names and shapes.

    Raises:
        UserError: naming every key of theirs that is missing, unexpected or of another size.
    """
    names = {name: official_name(name) for name in ours}
    faults = [f"missing {theirs}" for theirs in names.values() if theirs not in official]
    faults += [f"unexpected {theirs}" for theirs in sorted(set(official) - set(names.values()))]
    faults += [
        f"{theirs} is {tuple(official[theirs].shape)}, not {tuple(ours[name].shape)}"
        for name, theirs in names.items()
        if theirs in official and squeezed_shape(official[theirs]) != squeezed_shape(ours[name])
    ]
    if faults:
        raise UserError(f"{source} does not hold the weights of the model that its args describe: {'; '.join(faults)}.")
    return {name: official[theirs].reshape(ours[name].shape) for name, theirs in names.items()}


def squeezed_shape(tensor: Tensor) -> tuple[int, ...]:
    """The shape without its leading 1s."""
    shape = tuple(tensor.shape)
    while shape and shape[0] == 1:
        shape = shape[1:]
    return shape


def official_name(name: str) -> str:
    """The official project's name of one of our parameters."""
    module, _, leaf = name.rpartition(".")
    outside_blocks = TRUNK_NAMES | GENERATOR_NAMES
    if name in outside_blocks:
        return outside_blocks[name]
    if module in outside_blocks:
        return f"{outside_blocks[module]}.{leaf}"
    for prefix, theirs, inner in (
        ("trunk.blocks.", "decoder_blocks.", BLOCK_NAMES),
        ("rule.generator.blocks.", "scoreloss.net.res_blocks.", GENERATOR_BLOCK_NAMES),
    ):
        if module.startswith(prefix):
            index, _, rest = module.removeprefix(prefix).partition(".")
            return f"{theirs}{index}.{inner[rest]}.{leaf}"
    raise AssertionError(name)
