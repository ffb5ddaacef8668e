"""Checkpoint arguments of the command line."""

from collections.abc import Sequence
from pathlib import Path

from ear.config import Reach, RunConfig
from ear.config.hashed import hashed_values
from ear.config.loading import apply_overrides, validate
from ear.errors import UserError, shortened
from ear.files.writing import exists
from ear.store import Store
from ear.store.key_prefix import is_key_prefix, training_key
from ear.training.checkpoint import CHECKPOINT


def checkpoint_file(path: Path, root: Path) -> Path:
    """Return the checkpoint file that `path` names.

    Args:
        path: the file; the folder that contains it; or the first digits of the key of a training or of one of its
            evaluations, alone (in the store below `root`) or in the path of a store, as in `runs/store/284beb59`.
        root: the output root.

    Raises:
        UserError: there is no such file.
    """
    file = path / CHECKPOINT if exists(path) and path.is_dir() else path
    if exists(file):
        return file
    folder = path.parent if path.name != str(path) else Store.folder_in(root)
    if is_key_prefix(path.name) and folder == Store.folder_in(folder.parent) and folder.is_dir():
        store = Store(folder.parent, reading=True)
        return store.path(training_key(store, path.name)) / CHECKPOINT
    raise UserError(
        f"There is no checkpoint {shortened(str(file))}: `ear train` prints the path of the one it writes, and "
        "`ear store list` the keys of all, whose first digits are enough."
    )


def override(config: RunConfig, overrides: Sequence[str], checkpoint: Path) -> RunConfig:
    """Return a checkpoint's configuration with changed sampling, evaluation or execution settings.

    Raises:
        UserError: an override is invalid, or changes a setting that the weights were trained with.
    """
    values = config.model_dump(mode="json")
    apply_overrides(values, overrides)
    changed = validate(RunConfig, values, source=str(checkpoint), recorded=True)  # the YAML parser bounds new values
    trained = frozenset({Reach.TRAINING, Reach.STAGE})
    if hashed_values(changed, trained) != hashed_values(config, trained):
        sections = {text.split("=")[0].split(".")[0] for text in overrides}
        its_own = ", ".join(sorted(section for section in sections if RunConfig.reach(section) is Reach.TRAINING))
        raise UserError(
            f"--set: {checkpoint} was trained with its own {its_own}, which can't be changed. Change only sampling.*, "
            "evaluation.*, execution.* and file locations (data.path, tokenizer.checkpoint)."
        )
    return changed
