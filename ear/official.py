"""Converts checkpoints of the official EAR project: the same weights under this program's names.

Source: the authors' public code (ICML 2025, arXiv 2505.07812). Its checkpoints have `model`, `model_ema`, `args`, ...
"""

import argparse
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from ear.config import RunConfig
from ear.config.schema import (
    EnergyConfig,
    EvaluationConfig,
    ExecutionConfig,
    GeneratorConfig,
    ImageFolderData,
    KLTokenizerConfig,
    ModelConfig,
    OptimizerConfig,
    SamplingConfig,
    StageConfig,
    TrainingConfig,
)
from ear.errors import UserError
from ear.files.writing import write_atomically
from ear.model import ImageModel, empty_model
from ear.tokenizers import build_tokenizer
from ear.weights.faults import require_finite
from ear.weights.names import plain_names
from ear.weights.torch_files import first_line, read_torch_file

IMAGENET_IMAGES = 1_281_167  # of the training split
SAMPLES_A_PAIR = 2  # generator samples in each of the official loss's `score_batch_mul` pairs

# This program's names -> official names. Shapes are equal except for leading 1s in three official parameters.
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
OFFICIAL_LEADING_ONES = {"fake_latent": (1,), "mask_token": (1, 1), "decoder_pos_embed_learned": (1,)}


@dataclass(frozen=True)
class OfficialCheckpoint:
    """A converted official checkpoint."""

    config: (
        RunConfig  # from its args, which are those of its last command only; the paper's recipe if they lack a value
    )
    model: ImageModel  # in eval mode, with the weights for sampling: the EMA if there is one
    weights: dict[str, Tensor]  # the weights to resume training from, under this program's names

    @property
    def sampling(self) -> SamplingConfig:
        """The sampling settings in its args."""
        return self.config.sampling


def load_official(path: Path) -> OfficialCheckpoint:
    """Load an official checkpoint, with the configuration in its `args` and the sizes of its weights.

    Raises:
        UserError: the file can't be read safely, or weights are missing, unexpected, misshapen or not finite.
    """
    checkpoint = read_torch_file(path, parts=("args", "model", "model_ema"))
    try:
        args = checkpoint["args"]
        args = args if isinstance(args, dict) else vars(args)
        weights = _weights(checkpoint, "model")
        averages = _weights(checkpoint, "model_ema") if "model_ema" in checkpoint else weights
        config = _config(args, averages)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except KeyError as error:
        raise UserError(f"{path} is not a checkpoint of the official EAR project: it has no {error}.") from error
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join([error.title, *map(str, fault["loc"])])
        raise UserError(
            f"{path}: its args have an invalid value for {place}: {fault['msg']} (given: {fault['input']!r})."
        ) from error
    except (TypeError, ValueError, AttributeError, IndexError) as error:
        raise UserError(f"{path} is not a checkpoint of the official EAR project: {first_line(error)}.") from error
    tokenizer = build_tokenizer(config)
    model = empty_model(config, tokenizer.tokens, tokenizer.token_dim, config.data.classes)
    for part, state in (("model", weights), ("model_ema", averages)):
        require_finite(state, f"{path}, {part},")
    model.load_state_dict(translate(averages, model.state_dict(), str(path)))
    return OfficialCheckpoint(
        model=model.eval(), config=config, weights=translate(weights, model.state_dict(), str(path))
    )


def save_official(path: Path, config: RunConfig, weights: Mapping[str, Tensor], averages: Mapping[str, Tensor]) -> None:
    """Write weights under this program's names as a checkpoint for the official code.

    Raises:
        UserError: the official code does not have this kind of model.
    """
    if not isinstance(config.scoring, EnergyConfig) or not isinstance(config.tokenizer, KLTokenizerConfig):
        raise UserError(
            f"The official project has only models of autoencoder latents with the energy score, not "
            f"{config.scoring.name} on {config.data.name}."
        )
    checkpoint = {
        "model": _official_state(weights),
        "model_ema": _official_state(averages),
        "epoch": round(config.total_steps * config.training.batch_size / config.data.images) - 1,
        "args": argparse.Namespace(**_args(config)),
    }
    write_atomically(path, lambda temporary: torch.save(checkpoint, temporary))


def _weights(checkpoint: Mapping[str, Any], part: str) -> dict[str, Tensor]:
    """The state dict in a part of a checkpoint, without prefixes of wrappers.

    Raises:
        KeyError: the checkpoint has no such part.
        TypeError: the part is not a state dict.
    """
    state = checkpoint[part]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise TypeError(f"{part} is not a dictionary of tensors")
    return plain_names(state)


def _official_state(ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        official_name(name): tensor.reshape(
            OFFICIAL_LEADING_ONES.get(official_name(name), ()) + tuple(tensor.shape)
        ).clone()
        for name, tensor in ours.items()
    }


def _config(args: Mapping[str, Any], weights: Mapping[str, Tensor]) -> RunConfig:
    """The configuration in a checkpoint's `args`, checked against the sizes of its weights."""
    sizes = _sizes(weights)
    wrong = [
        f"{name} {args[name]} (the weights: {size})" for name, size in sizes.items() if args.get(name, size) != size
    ]
    if wrong:
        raise UserError(f"the args disagree with the weights: {', '.join(wrong)}.")
    sizes = {**sizes, **args}
    width = sizes["decoder_embed_dim"]
    group = args.get("batch_size", 32)  # images of one forward pass, which share a mask ratio
    batch_size = round(group * args.get("world_size", 32) * args.get("accumulation_steps", 2))
    rate = args.get("blr", 1e-4)
    if args.get("lr") is not None and not math.isclose(args["lr"], rate * batch_size / 256):  # --lr overrides --blr
        rate = args["lr"] * 256 / batch_size
    return RunConfig(
        data=ImageFolderData(size=args["img_size"], classes=sizes["class_num"], images=IMAGENET_IMAGES),
        tokenizer=KLTokenizerConfig(
            patch_size=args["patch_size"], latent_channels=args["vae_embed_dim"], stride=args["vae_stride"]
        ),
        model=ModelConfig(
            width=width,
            depth=sizes["decoder_depth"],
            heads=args["decoder_num_heads"],
            mlp_ratio=weights["decoder_blocks.0.mlp.fc1.weight"].shape[0] / width,
            buffer_tokens=args["buffer_size"],
            attention_dropout=args.get("attn_dropout", 0.1),
            projection_dropout=args.get("proj_dropout", 0.1),
        ),
        scoring=EnergyConfig(
            alpha=args["alpha"],
            samples=round(SAMPLES_A_PAIR * args.get("score_batch_mul", 2)),
            generator=GeneratorConfig(
                width=sizes["scoreloss_w"], depth=sizes["scoreloss_d"], noise_channels=sizes["noise_channels"]
            ),
        ),
        optimizer=OptimizerConfig(
            weight_decay=args.get("weight_decay", 0.02),
            generator_lr_scale=args.get("score_lrscale", 0.25),
            warmup_epochs=args.get("warmup_epochs", 100),
            clip_norm=args.get("grad_clip", 3.0),
            ema_decay=args.get("ema_rate", 0.9999),
        ),
        training=TrainingConfig(
            batch_size=batch_size,
            label_drop=args.get("label_drop_prob", 0.1),
            mask_ratio_min=args.get("mask_ratio_min", 0.7),
            mask_group=group,
            schedule=args.get("lr_schedule", "constant"),
            stages=(
                StageConfig(
                    epochs=args.get("epochs", 800),
                    learning_rate_per_256=rate,
                    train_temperature=args["train_temperature"],
                ),
            ),
        ),
        sampling=SamplingConfig(
            steps=args["num_iter"],
            cfg=args["cfg"],
            cfg_schedule=args["cfg_schedule"],
            infer_temperature=args["infer_temperature"],
        ),
        evaluation=EvaluationConfig(extractor="inception-v3-compat", reference="train", images=50_000),
        execution=ExecutionConfig(batch_size=64),
    )


def _sizes(weights: Mapping[str, Tensor]) -> dict[str, int]:
    """The sizes that follow from the shapes of the weights, under the names of `args`."""
    return {
        "decoder_embed_dim": weights["z_proj.weight"].shape[0],
        "decoder_depth": sum(name.startswith("decoder_blocks.") and name.endswith("norm1.weight") for name in weights),
        "class_num": weights["class_emb.weight"].shape[0],
        "scoreloss_w": weights["scoreloss.net.noise_embed.weight"].shape[0],
        "noise_channels": weights["scoreloss.net.noise_embed.weight"].shape[1],
        "scoreloss_d": sum(
            name.startswith("scoreloss.net.res_blocks.") and name.endswith("in_ln.weight") for name in weights
        ),
    }


def _args(config: RunConfig) -> dict[str, Any]:
    """The official args for a configuration, as far as they can express it. `_config` is the inverse."""
    assert isinstance(config.scoring, EnergyConfig)
    assert isinstance(config.tokenizer, KLTokenizerConfig)
    last = config.training.stages[-1]
    batch_size = config.training.batch_size
    group = config.training.mask_group or batch_size
    warmup_epochs = config.optimizer.warmup_epochs
    if warmup_epochs is None:
        warmup_epochs = config.warmup_steps * batch_size / config.data.images
    return {
        "img_size": config.data.image_shape[1],
        "vae_stride": config.tokenizer.stride,
        "patch_size": config.tokenizer.patch_size,
        "vae_embed_dim": config.tokenizer.latent_channels,
        "class_num": config.data.classes,
        "decoder_embed_dim": config.model.width,
        "decoder_depth": config.model.depth,
        "decoder_num_heads": config.model.heads,
        "buffer_size": config.model.buffer_tokens,
        "attn_dropout": config.model.attention_dropout,
        "proj_dropout": config.model.projection_dropout,
        "scoreloss_w": config.scoring.generator.width,
        "scoreloss_d": config.scoring.generator.depth,
        "noise_channels": config.scoring.generator.noise_channels,
        "alpha": config.scoring.alpha,
        "score_batch_mul": _whole(config.scoring.samples / SAMPLES_A_PAIR),  # the official code has only integers
        "weight_decay": config.optimizer.weight_decay,
        "score_lrscale": config.optimizer.generator_lr_scale,
        "warmup_epochs": warmup_epochs,
        "grad_clip": config.optimizer.clip_norm,
        "ema_rate": config.optimizer.ema_decay,
        "label_drop_prob": config.training.label_drop,
        "mask_ratio_min": config.training.mask_ratio_min,
        "lr_schedule": config.training.schedule,
        "batch_size": group,
        "world_size": 1,
        "accumulation_steps": _whole(batch_size / group),
        "train_temperature": last.train_temperature,
        "blr": config.peak_learning_rate(last) * 256 / batch_size,
        "epochs": round(config.total_steps * batch_size / config.data.images),
        "num_iter": config.sampling.steps,
        "cfg": config.sampling.cfg,
        "cfg_schedule": config.sampling.cfg_schedule,
        "infer_temperature": config.sampling.infer_temperature,
    }


def _whole(number: float) -> float | int:
    return int(number) if number.is_integer() else number


def translate(official: Mapping[str, Tensor], ours: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Translate an official state dict to this program's names and shapes.

    Args:
        ours: a state dict with the wanted names and shapes.
        source: names the file in messages.

    Raises:
        UserError: weights are missing, unexpected or of another shape; the message gives their official names.
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
        raise UserError(f"{source} does not have the weights of the model in its args: {'; '.join(faults)}.")
    return {name: official[theirs].reshape(ours[name].shape) for name, theirs in names.items()}


def squeezed_shape(tensor: Tensor) -> tuple[int, ...]:
    """The shape of a tensor without leading 1s."""
    shape = tuple(tensor.shape)
    while shape and shape[0] == 1:
        shape = shape[1:]
    return shape


def official_name(name: str) -> str:
    """The official name of a parameter with this program's name `name`."""
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
