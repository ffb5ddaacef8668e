"""Reads and writes checkpoints of the official EAR project.

Source: the authors' public code (ICML 2025, arXiv 2505.07812). Its checkpoints have `model`, `model_ema`, `args`, ...
"""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from ear.config import RunConfig
from ear.config.schema import EnergyConfig, KLTokenizerConfig, SamplingConfig
from ear.errors import UserError
from ear.files.writing import write_atomically
from ear.model import ImageModel, empty_model
from ear.official.args import args_of_config, config_from_args
from ear.official.names import official_state, translate
from ear.tokenizers import build_tokenizer
from ear.weights.faults import require_finite
from ear.weights.names import plain_names
from ear.weights.torch_files import first_line, read_torch_file


@dataclass(frozen=True)
class OfficialCheckpoint:
    """A converted official checkpoint."""

    config: RunConfig  # from its args, those of its last command only; where they lack a value, the paper's recipe
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
        config = config_from_args(args, averages)
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
        "model": official_state(weights),
        "model_ema": official_state(averages),
        "epoch": round(config.total_steps * config.training.batch_size / config.data.images) - 1,
        "args": argparse.Namespace(**args_of_config(config)),
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
