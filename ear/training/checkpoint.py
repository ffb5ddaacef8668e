"""Checkpoints: one file with the weights, their EMA, the optimizer's state, the training curve and the configuration.

A checkpoint is a safetensors file that is replaced atomically. Its metadata has a SHA-256 of each part and of itself,
so that no training resumes from corrupted data. Randomness is keyed by step (ear.random), so no generator state is
saved.
"""

import hashlib
import json
import shlex
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ear.config import RunConfig
from ear.config.earlier import resolve_auto_precision
from ear.config.hashing import digest
from ear.config.loading import validate
from ear.errors import UserError
from ear.files.kinds import is_torch_file, other_content
from ear.files.writing import require_regular, write_atomically
from ear.weights.faults import WeightFaults, require_finite
from ear.weights.torch_files import first_line

FORMAT = "ear-checkpoint-1"
CHECKPOINT = "checkpoint.safetensors"  # file name in a folder of the store
DIGESTS, SEAL = "digests", "seal"  # hashes of the parts and of the metadata; earlier versions wrote neither
OF_OUR_OWN = "If `ear train` wrote it, delete it and run the same command again, which resumes from what is left."


class DamagedCheckpointError(UserError):
    """The file exists and can be read, but its content is not what was written."""


@dataclass(frozen=True)
class CheckpointHeader:
    """The metadata of a checkpoint."""

    config: RunConfig
    step: int  # steps done
    dataset_hash: str  # of the training data
    tokenizer_hash: str = ""  # of the autoencoder of cached latents; "" if the tokenizer is saved here or unknown
    initial_hash: str = ""  # of the checkpoint that it was fine-tuned from; "" if there was none or it is unknown


def save_checkpoint(path: Path, header: CheckpointHeader, parts: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Write a header and `parts` ("model", "ema", "optimizer", ...: name -> tensor) to one file, atomically."""
    tensors = {
        f"{part}/{name}": tensor.detach().contiguous()
        for part, named in parts.items()
        for name, tensor in named.items()
    }
    with ThreadPoolExecutor() as pool:  # hashing releases the GIL
        digests = dict(zip(parts, pool.map(_digest, parts.values()), strict=True))
    metadata = {
        "format": FORMAT,
        "config": json.dumps(header.config.model_dump(mode="json")),
        "step": str(header.step),
        "dataset_hash": header.dataset_hash,
        "tokenizer_hash": header.tokenizer_hash,
        "initial_hash": header.initial_hash,
        DIGESTS: json.dumps(digests),
    }
    metadata[SEAL] = _seal(metadata)
    write_atomically(path, lambda temporary: save_file(tensors, temporary, metadata))


def load_header(path: Path) -> CheckpointHeader:
    """Read the header of a checkpoint, without its weights.

    Raises:
        UserError: the file is missing, truncated or not a checkpoint of this program, or its configuration is invalid.
    """
    metadata = load_metadata(path)
    values = resolve_auto_precision(stated_config(path, metadata), "float32")
    try:
        step, dataset_hash = int(metadata["step"]), metadata["dataset_hash"]
    except (ValueError, KeyError) as error:
        raise _damaged_header(path, error) from error
    config = validate(RunConfig, values, source=f"{path} (its configuration)", recorded=True)
    return CheckpointHeader(
        config, step, dataset_hash, metadata.get("tokenizer_hash", ""), metadata.get("initial_hash", "")
    )


def load_metadata(path: Path) -> dict[str, str]:
    """Read the metadata of a checkpoint as written, by any version of this program.

    Raises:
        UserError: the file is missing, truncated or not a checkpoint of this program.
    """
    with _open(path) as checkpoint:
        metadata: dict[str, str] = checkpoint.metadata() or {}
    if metadata.get("format") != FORMAT:
        raise DamagedCheckpointError(
            f"{path} is a safetensors file but not a checkpoint of this program (format {FORMAT})."
        )
    if metadata.get(SEAL) not in (None, _seal(metadata)):
        raise DamagedCheckpointError(f"The checkpoint {path} is damaged: its header has changed. {OF_OUR_OWN}")
    return metadata


def require_whole(path: Path) -> None:
    """Read a whole checkpoint to verify it.

    Raises:
        DamagedCheckpointError: its content is not what was written, or its weights are not finite.
        UserError: it can't be read.
    """
    load_header(path)
    for part in ("model", "ema", "optimizer", "tokenizer", "history"):
        tensors = load_part(path, part)
        if part in ("model", "ema"):
            try:
                require_finite(tensors, f"{path}, {part},")
            except UserError as error:
                raise DamagedCheckpointError(str(error)) from error


def stated_config(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """The unvalidated configuration in a checkpoint's metadata, as written.

    Raises:
        DamagedCheckpointError: it is missing or not a mapping of sections.
    """
    try:
        values = json.loads(metadata["config"])
        if not isinstance(values, dict) or not isinstance(values.get("execution", {}), dict):
            raise ValueError("its configuration is not a mapping of sections")
    except (KeyError, ValueError, RecursionError) as error:
        raise _damaged_header(path, error) from error
    return values


def _damaged_header(path: Path, error: Exception) -> DamagedCheckpointError:
    return DamagedCheckpointError(
        f"The checkpoint {path} is damaged: its header is incomplete ({first_line(error)}). {OF_OUR_OWN}"
    )


def replace_config(path: Path, config: RunConfig) -> None:
    """Replace the configuration in a checkpoint, atomically. The bytes of the tensors do not change.

    A safetensors file consists of the length of a JSON header (8 bytes, little-endian), the header, and the tensors,
    whose offsets are relative to the header's end.
    """
    with path.open("rb") as source:
        header = json.loads(source.read(int.from_bytes(source.read(8), "little")))
        metadata = header["__metadata__"]
        metadata["config"] = json.dumps(config.model_dump(mode="json"))
        if SEAL in metadata:
            metadata[SEAL] = _seal(metadata)
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)  # tensors are aligned

        def write(temporary: Path) -> None:
            with temporary.open("wb") as target:
                target.write(len(text).to_bytes(8, "little") + text)
                shutil.copyfileobj(source, target)

        write_atomically(path, write)


def load_part(path: Path, part: str) -> dict[str, Tensor]:
    """Load the tensors of one part by name, on the CPU. Other parts are not read.

    Raises:
        DamagedCheckpointError: the part is not what was written.
        UserError: the file is missing or can't be read.
    """
    prefix = f"{part}/"
    with _open(path) as checkpoint:
        wanted = json.loads((checkpoint.metadata() or {}).get(DIGESTS, "{}")).get(part)
        tensors = {
            name.removeprefix(prefix): checkpoint.get_tensor(name)
            for name in checkpoint.keys()  # noqa: SIM118 (safe_open is not a mapping)
            if name.startswith(prefix)
        }
    if wanted not in (None, _digest(tensors)):
        raise DamagedCheckpointError(f"The checkpoint {path} is damaged: its {part} has changed. {OF_OUR_OWN}")
    return tensors


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of the names, dtypes, shapes and bytes of tensors."""
    state = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        state.update(f"{name} {tensor.dtype} {list(tensor.shape)} ".encode())
        state.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return state.hexdigest()


def _seal(metadata: Mapping[str, str]) -> str:
    return digest({name: value for name, value in metadata.items() if name != SEAL})


def load_weights(model: nn.Module, path: Path, part: str) -> None:
    """Load the part "model" or "ema" of a checkpoint into a model.

    Raises:
        UserError: weights are missing, unexpected, of another shape or not finite; the message names all of them.
    """
    load_state(model, load_part(path, part), f"{path}, {part},")


def load_state(model: nn.Module, found: Mapping[str, Tensor], source: str) -> None:
    """Load the weights `found` into a model. `source` names them in messages.

    Raises:
        UserError: weights are missing, unexpected, of another shape or not finite; the message names all of them.
    """
    if faults := WeightFaults.between(found, model.state_dict()):
        raise UserError(f"{source} does not contain the weights of the configured model: {faults}.")
    require_finite(found, source)
    model.load_state_dict(found)


def _open(path: Path) -> Any:
    try:
        require_regular(path)
        return safe_open(path, framework="pt", device="cpu")
    except FileNotFoundError as error:
        raise UserError(f"There is no checkpoint {path}.") from error
    except (SafetensorError, OSError) as error:
        raise _refusal(path, error) from error


def _refusal(path: Path, error: Exception) -> UserError:
    try:
        return DamagedCheckpointError(_reason(path, error))
    except OSError as unreadable:
        reason = unreadable.strerror or unreadable
        return UserError(f"The checkpoint {path} can't be read ({reason}): fix its permissions.")


def _reason(path: Path, error: Exception) -> str:
    """Say why a file is not a checkpoint of this program, and what to do."""
    if path.is_file() and path.stat().st_size == 0:
        return f"The checkpoint {path} is empty. {OF_OUR_OWN}"
    if path.is_dir():
        return f"The checkpoint {path} is a folder: give the file in it."
    if (content := other_content(path)) is not None:
        return f"The checkpoint {path} is {content}."
    if is_torch_file(path):
        return (
            f"{path} is a file of torch.save, not a checkpoint of this program. If it is an official EAR checkpoint, "
            f"convert it with `ear convert {shlex.quote(str(path))} --output FOLDER`."
        )
    return f"The checkpoint {path} is damaged or not a safetensors file ({error}). Is the path right? {OF_OUR_OWN}"


def optimizer_tensors(optimizer: torch.optim.Optimizer, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """AdamW's state as tensors named `MOMENT.NAME`, for every moment of every parameter."""
    return {
        f"{moment}.{name}": value
        for name, parameter in parameters.items()
        for moment, value in optimizer.state.get(parameter, {}).items()
    }


def restore_optimizer(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, Tensor], tensors: Mapping[str, Tensor]
) -> None:
    """Restore an optimizer's state from the tensors that `optimizer_tensors` returned."""
    for key, value in tensors.items():
        moment, _, name = key.partition(".")
        parameter = parameters[name]
        # The step counter stays a float32 scalar; the moments get their parameter's dtype. A fused optimizer needs both
        # on their parameter's device.
        dtype = value.dtype if moment == "step" else parameter.dtype
        optimizer.state[parameter][moment] = value.to(parameter.device, dtype, copy=True)
