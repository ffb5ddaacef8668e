"""Checkpoints of the official project to ours and back, as files."""

from pathlib import Path

from ear.errors import UserError
from ear.official import load_official, save_official
from ear.training.checkpoint import CHECKPOINT, CheckpointHeader, load_header, load_part, save_checkpoint


def from_official(source: Path, folder: Path) -> Path:
    """Writes the official checkpoint as ours into a folder that every command takes; returns the file.

    Raises:
        UserError: the source is no official checkpoint.
    """
    official = load_official(source)
    header = CheckpointHeader(official.config, official.config.total_steps, dataset_hash="")
    path = folder / CHECKPOINT
    save_checkpoint(path, header, {"model": official.weights, "ema": official.model.state_dict()})
    return path


def to_official(source: Path, file: Path) -> None:
    """Writes our checkpoint as the official project's, a .pth file.

    Raises:
        UserError: the source is no checkpoint of ours, or of a model that the official project does not have.
    """
    if file.suffix != ".pth":
        raise UserError(f"--output {file}: an official checkpoint is a file that ends in .pth.")
    save_official(file, load_header(source).config, load_part(source, "model"), load_part(source, "ema"))
