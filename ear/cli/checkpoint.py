"""Checkpoints as the command line names them."""

from collections.abc import Sequence
from pathlib import Path

from ear.config import Reach, RunConfig
from ear.config.hashed import hashed_values
from ear.config.loading import apply_overrides, validate
from ear.errors import UserError, shortened
from ear.files.writing import exists
from ear.training.checkpoint import CHECKPOINT


def checkpoint_file(path: Path) -> Path:
    """The checkpoint in a folder of the store, or the file itself.

    Raises:
        UserError: there is none.
    """
    file = path / CHECKPOINT if exists(path) and path.is_dir() else path
    if not exists(file):
        raise UserError(f"There is no checkpoint {shortened(str(file))}: `ear train` prints where it puts one.")
    return file


def override(config: RunConfig, overrides: Sequence[str], checkpoint: Path) -> RunConfig:
    """A checkpoint's configuration with other sampling, evaluation or execution settings.

    Raises:
        UserError: the override is wrong, or changes what the weights were trained with.
    """
    values = config.model_dump(mode="json")
    apply_overrides(values, overrides)
    changed = validate(RunConfig, values, source=str(checkpoint), recorded=True)  # new ones are bounded as YAML
    trained = frozenset({Reach.TRAINING, Reach.STAGE})
    if hashed_values(changed, trained) != hashed_values(config, trained):
        sections = {text.split("=")[0].split(".")[0] for text in overrides}
        its_own = ", ".join(sorted(section for section in sections if RunConfig.reach(section) is Reach.TRAINING))
        raise UserError(
            f"--set: {checkpoint} was trained with its own {its_own}; only sampling.*, evaluation.*, execution.* and "
            "where files lie (data.path, tokenizer.checkpoint) can be changed now."
        )
    return changed
