"""Compares the scale of latents that an autoencoder's files state with the configured one."""

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

ROUNDING = 1e-3  # relative difference between published factors of one autoencoder
UNUSED = ("shift_factor", "latents_mean", "latents_std")  # diffusers' other factors, which are not applied here


def warn_of_another_scale(path: Path, config: KLTokenizerConfig, weights: Mapping[str, Any]) -> None:
    """Warn, once per process, if the scale in or beside the file differs from the configured one.

    Args:
        weights: the content of the file. Latent diffusion models with a measured scale have it as `scale_factor`.
    """
    stated = _stated(path) | _measured(weights)
    factor = stated.get("scaling_factor")
    if factor is not None and not math.isclose(factor, config.scale, rel_tol=ROUNDING):
        _warn(
            f"{path} states the scaling factor {factor:g}, but tokenizer.scale is {config.scale:g}: to train, use "
            f"--set tokenizer.scale={factor:g}, or keep yours if you measured it (ear encode --measure-scale)."
        )
    for name in UNUSED:
        if stated.get(name):
            _warn(
                f"{path} states {name} {stated[name]}, which is not applied: a token is tokenizer.scale times the "
                "latent."
            )


def _stated(path: Path) -> dict[str, Any]:
    """The factors in diffusers' config.json, in the folder or beside the file, and in a safetensors file's metadata."""
    folder = path if path.is_dir() else path.parent
    found: dict[str, Any] = {}
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if isinstance(config, dict) and str(config.get("_class_name", "")).startswith("Autoencoder"):
            found = config
    except (OSError, ValueError, RecursionError):  # there is none; diffusers refuses a folder without one
        pass
    if path.is_file() and is_safetensors(path):
        with safe_open(path, framework="pt") as file:
            found = found | (file.metadata() or {})
    return {name: value for name in ("scaling_factor", *UNUSED) if (value := _number(found.get(name))) is not None}


def _measured(weights: Mapping[str, Any]) -> dict[str, Any]:
    factor = weights.get("scale_factor")
    return {"scaling_factor": factor.item()} if isinstance(factor, Tensor) and factor.numel() == 1 else {}


def _number(value: Any) -> Any:
    """A number (also as text, as in metadata) or a list; None for anything else."""
    if isinstance(value, list):
        return value
    try:
        return None if value is None or isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None


@cache
def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=2)
