"""What an autoencoder's own files say of the scale of its latents, beside the configured one."""

import json
import math
import warnings
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from ear.config.schema import KLTokenizerConfig
from ear.files.kinds import is_safetensors

ROUNDING = 1e-3  # by which published factors of one autoencoder differ
UNUSED = ("shift_factor", "latents_mean", "latents_std")  # diffusers': subtracted or divided by before the scale


def warn_of_another_scale(path: Path, config: KLTokenizerConfig, weights: Mapping[str, Any]) -> None:
    """Warns, once a process, where what stands in or beside the file differs from what is done here.

    Args:
        weights: of the file as it is. A latent diffusion model whose scale was measured keeps it as `scale_factor`.
    """
    stated = _stated(path) | _measured(weights)
    factor = stated.get("scaling_factor")
    if factor is not None and not math.isclose(factor, config.scale, rel_tol=ROUNDING):
        _warn(
            f"{path} states the scaling factor {factor:g}, but tokenizer.scale is {config.scale:g}: give it by "
            f"--set tokenizer.scale={factor:g} to train, or keep yours if you measured it (ear encode --measure-scale)."
        )
    for name in UNUSED:
        if stated.get(name):
            _warn(
                f"{path} states {name} {stated[name]}, which is not applied here: a token is tokenizer.scale times the "
                "latent."
            )


def _stated(path: Path) -> dict[str, Any]:
    """Of diffusers' config.json in the folder or beside the file, and of a safetensors file's metadata."""
    folder = path if path.is_dir() else path.parent
    found: dict[str, Any] = {}
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if isinstance(config, dict) and str(config.get("_class_name", "")).startswith("Autoencoder"):
            found = config
    except (OSError, ValueError, RecursionError):  # none; a folder without one is refused by diffusers
        pass
    if path.is_file() and is_safetensors(path):
        with safe_open(path, framework="pt") as file:
            found = found | (file.metadata() or {})
    return {name: value for name in ("scaling_factor", *UNUSED) if (value := _number(found.get(name))) is not None}


def _measured(weights: Mapping[str, Any]) -> dict[str, Any]:
    factor = weights.get("scale_factor")
    return {"scaling_factor": factor.item()} if isinstance(factor, Tensor) and factor.numel() == 1 else {}


def _number(value: Any) -> Any:
    """A number, or several, as they are; of metadata, which is text, too. None of anything else."""
    if isinstance(value, list):
        return value
    try:
        return None if value is None or isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None


@cache
def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=2)
