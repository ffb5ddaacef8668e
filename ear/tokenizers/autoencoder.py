"""Loads pretrained variational autoencoders from a file in LDM's layout or a folder in diffusers' format."""

from pathlib import Path
from typing import Any, cast

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ear.config.schema import KLTokenizerConfig
from ear.errors import UserError, import_extra
from ear.files.kinds import is_safetensors, other_content
from ear.tokenizers.ldm_layout import autoencoder_config, to_diffusers
from ear.tokenizers.stated_scale import warn_of_another_scale
from ear.weights.faults import WeightFaults, require_finite
from ear.weights.names import plain_names
from ear.weights.torch_files import first_line, read_torch_file

OPTION = "tokenizer.checkpoint"
IMAGE_CHANNELS = 3
DIFFUSERS = "diffusion_pytorch_model"  # diffusers' name of weight files
INSIDE_LDM = "first_stage_model."  # prefix of the autoencoder's weights in a full latent diffusion model
FOR_TRAINING = "loss."  # prefix of weights that only its training uses


def load_autoencoder(path: Path, config: KLTokenizerConfig) -> nn.Module:
    """Load diffusers' AutoencoderKL from a folder in its own format or a checkpoint in LDM's layout.

    Raises:
        UserError: it is missing, damaged or of another shape, or its weights are not finite.
    """
    if not path.exists():
        raise UserError(f"{OPTION}: {path} does not exist: check the path.")
    state = {} if path.is_dir() else _state(path)
    autoencoder = _from_folder(path) if path.is_dir() else _from_ldm(path, _of_autoencoder(state))
    _require_shape(autoencoder, config, path)
    require_finite(autoencoder.state_dict(), f"{OPTION}: {path}")
    warn_of_another_scale(path, config, state)
    return autoencoder


def _from_folder(folder: Path) -> nn.Module:
    kind = import_extra("diffusers", "latents").AutoencoderKL
    for file in _files_to_load(folder):
        if file.suffix == ".bin":
            _content(file, device="meta")  # checked here, since diffusers does not say what it refuses
        elif (content := other_content(file)) is not None:
            raise UserError(f"{OPTION}: {file} is {content}.")
    try:
        # The last two options avoid a warning about accelerate, and report misshapen weights by name.
        autoencoder, found = kind.from_pretrained(
            folder,
            local_files_only=True,
            output_loading_info=True,
            low_cpu_mem_usage=False,
            ignore_mismatched_sizes=True,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise UserError(
            f"{OPTION}: the folder {folder} has no autoencoder in diffusers' format ({first_line(error)})."
        ) from error
    faults = WeightFaults(list(found["missing_keys"]), list(found["unexpected_keys"]), list(found["mismatched_keys"]))
    _require_whole(folder, faults)
    return cast(nn.Module, autoencoder)


def _files_to_load(folder: Path) -> list[Path]:
    """The weight files that diffusers loads. Others, in another precision or format, may be incomplete."""
    if (folder / f"{DIFFUSERS}.safetensors.index.json").is_file():
        return sorted(folder.glob(f"{DIFFUSERS}-*.safetensors"))
    files = [folder / f"{DIFFUSERS}.{ending}" for ending in ("safetensors", "bin")]
    return [file for file in files if file.is_file()][:1]


def _from_ldm(path: Path, state: dict[str, Tensor]) -> nn.Module:
    kind = import_extra("diffusers", "latents").AutoencoderKL
    try:
        autoencoder = cast(nn.Module, kind(**autoencoder_config(state), norm_num_groups=32))
    except KeyError as error:
        if any(name.startswith("encoder.down_blocks.") for name in state):
            raise UserError(
                f"{OPTION}: the weights in {path} have diffusers' names: give its folder, with the config.json in it."
            ) from error
        raise UserError(
            f"{OPTION}: {path} is not an autoencoder in LDM's layout: it has no {error.args[0]}."
        ) from error
    except (ValueError, IndexError) as error:  # impossible shapes
        raise UserError(f"{OPTION}: {path} is not an autoencoder in LDM's layout ({first_line(error)}).") from error
    found, wanted = to_diffusers(state), autoencoder.state_dict()
    _require_whole(path, WeightFaults.between(found, wanted))
    autoencoder.load_state_dict(found)
    return autoencoder


def _content(path: Path, device: str = "cpu") -> Any:
    """Read a safetensors or torch.save file, detected by content, not by name."""
    try:
        if is_safetensors(path):
            return load_file(path)
        return read_torch_file(path, parts=("model", "state_dict"), device=device)
    except UserError as error:
        raise UserError(f"{OPTION}: {error}") from error
    except (OSError, SafetensorError) as error:
        raise UserError(f"{OPTION}: {path} is damaged ({first_line(error)}): download it again.") from error


def _state(path: Path) -> dict[str, Tensor]:
    """The tensors in a file, at the top level or under `model` or `state_dict`."""
    content = _content(path)
    for key in ("model", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    values = content.items() if isinstance(content, dict) else ()
    try:
        return plain_names({str(name): value for name, value in values if isinstance(value, Tensor)})
    except UserError as error:
        raise UserError(f"{OPTION}: {path}: {error}") from error


def _of_autoencoder(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The autoencoder's weights, without those of a full latent diffusion model or of its own training."""
    if any(name.startswith(INSIDE_LDM) for name in state):
        state = {name.removeprefix(INSIDE_LDM): value for name, value in state.items() if name.startswith(INSIDE_LDM)}
    return {name: value for name, value in state.items() if not name.startswith(FOR_TRAINING)}


def _require_whole(path: Path, faults: WeightFaults) -> None:
    if faults:
        raise UserError(f"{OPTION}: {path} is not a complete autoencoder (names as in diffusers): {faults}.")


def _require_shape(autoencoder: Any, config: KLTokenizerConfig, path: Path) -> None:
    found = autoencoder.config
    if (found.in_channels, found.out_channels) != (IMAGE_CHANNELS, IMAGE_CHANNELS):
        raise UserError(
            f"{OPTION}: {path} has {found.in_channels} input channels and {found.out_channels} output channels; an "
            "autoencoder for RGB images is needed."
        )
    stride = 2 ** (len(found.block_out_channels) - 1)
    for name, configured, value in (
        ("latent_channels", config.latent_channels, found.latent_channels),
        ("stride", config.stride, stride),
    ):
        if configured != value:
            raise UserError(
                f"tokenizer.{name} is {configured}, but {path} has {value}: --set tokenizer.{name}={value}, "
                "or use another checkpoint."
            )
