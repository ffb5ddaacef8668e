"""The official `args` of a training, as this program's configuration and back."""

import math
from collections.abc import Mapping
from typing import Any

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

IMAGENET_IMAGES = 1_281_167  # of the training split
SAMPLES_A_PAIR = 2  # generator samples in each of the official loss's `score_batch_mul` pairs


def config_from_args(args: Mapping[str, Any], weights: Mapping[str, Tensor]) -> RunConfig:
    """The configuration in a checkpoint's `args`, checked against the sizes of its weights.

    Raises:
        UserError: args and weights disagree.
        KeyError: an argument or a weight is missing.
        ValidationError: the configuration does not allow an argument's value.
        TypeError, ValueError, AttributeError, IndexError: these are not args and weights of the official project.
    """
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


def args_of_config(config: RunConfig) -> dict[str, Any]:
    """The official args for a configuration, as far as they can express it. `config_from_args` is the inverse."""
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
