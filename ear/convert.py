"""Converts checkpoint files of the official EAR project to this program's format and back."""

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
    """Whether `source` is a checkpoint of this program: a folder or a safetensors file."""
    return source.is_dir() or (source.is_file() and is_safetensors(source))


def from_official(source: Path, folder: Path) -> Path:
    """Convert an official checkpoint and write it to a folder that every command accepts. Returns the file.

    Raises:
        UserError: the source is not an official checkpoint, or the folder can't be written or belongs to a store.
    """
    _require_folder_place(folder)
    official = load_official(source)
    header = CheckpointHeader(official.config, official.config.total_steps, dataset_hash="")
    path = folder / CHECKPOINT
    save_checkpoint(path, header, {"model": official.weights, "ema": official.model.state_dict()})
    return path


def to_official(source: Path, file: Path) -> None:
    """Convert a checkpoint of this program and write it as an official one, a .pth file.

    Raises:
        UserError: the source is not a checkpoint of this program, its model does not exist in the official project, or
            its weights are not finite; or the file can't be written.
    """
    if file.suffix != ".pth":
        raise UserError(f"{OPTION} {file}: an official checkpoint needs a file name that ends in .pth.")
    require_file_place(file, OPTION)
    require_as_published(source)
    config, weights, averages = load_header(source).config, load_part(source, "model"), load_part(source, "ema")
    for part, state in (("model", weights), ("ema", averages)):
        require_finite(state, f"{source}, {part},")
    save_official(file, config, weights, averages)


def _require_folder_place(folder: Path) -> None:
    """Check that the result can be written to `folder`, before a large file is read.

    Raises:
        UserError: it can't, or `folder` belongs to a store.
    """
    if folder.is_file():
        raise UserError(f"{OPTION} {folder} is a file: give a folder.")
    if folder.suffix in OFFICIAL_ENDINGS and not folder.exists():
        raise UserError(f"{OPTION} {folder}: a checkpoint of this program is written to a folder: give a folder.")
    if (folder / "entry.json").exists() or (folder.parent / "format.json").exists():
        raise UserError(f"{OPTION} {folder} is inside a store, which names results by key: give another folder.")
    require_writable(folder if folder.is_dir() else folder.parent, OPTION)
