"""Checkpoints of the official project to ours and back, as files."""

from pathlib import Path

from ear.errors import UserError
from ear.files.kinds import is_safetensors
from ear.files.writing import require_file_place, require_writable
from ear.official import load_official, save_official
from ear.store.verify import require_as_published
from ear.training.checkpoint import CHECKPOINT, CheckpointHeader, load_header, load_part, save_checkpoint
from ear.weights.faults import require_finite

OPTION = "--output"
OFFICIAL_ENDINGS = (".pth", ".pt")


def is_ours(source: Path) -> bool:
    """Whether a file or folder is to be read as a checkpoint of this program."""
    return source.is_dir() or (source.is_file() and is_safetensors(source))


def from_official(source: Path, folder: Path) -> Path:
    """Writes the official checkpoint as ours into a folder that every command takes; returns the file.

    Raises:
        UserError: the source is no official checkpoint, or the folder can't be written or belongs to a store.
    """
    _require_folder_place(folder)
    official = load_official(source)
    header = CheckpointHeader(official.config, official.config.total_steps, dataset_hash="")
    path = folder / CHECKPOINT
    save_checkpoint(path, header, {"model": official.weights, "ema": official.model.state_dict()})
    return path


def to_official(source: Path, file: Path) -> None:
    """Writes our checkpoint as the official project's, a .pth file.

    Raises:
        UserError: the source is no checkpoint of ours, or of a model that the official project does not have, or has
            weights that are not finite; or the file can't be written.
    """
    if file.suffix != ".pth":
        raise UserError(f"{OPTION} {file}: an official checkpoint is a file that ends in .pth.")
    require_file_place(file, OPTION)
    require_as_published(source)
    config, weights, averages = load_header(source).config, load_part(source, "model"), load_part(source, "ema")
    for part, state in (("model", weights), ("ema", averages)):
        require_finite(state, f"{source}, {part},")
    save_official(file, config, weights, averages)


def _require_folder_place(folder: Path) -> None:
    """Finds before a large file is read what would stop the result from being written."""
    if folder.is_file():
        raise UserError(f"{OPTION} {folder} is a file: name a folder.")
    if folder.suffix in OFFICIAL_ENDINGS and not folder.exists():
        raise UserError(f"{OPTION} {folder}: a checkpoint of this program goes into a folder: name a folder.")
    if (folder / "entry.json").exists() or (folder.parent / "format.json").exists():
        raise UserError(f"{OPTION} {folder} is in a store, which holds results under their keys: name another folder.")
    require_writable(folder if folder.is_dir() else folder.parent, OPTION)
