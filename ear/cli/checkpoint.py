"""Checkpoint arguments of the command line."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

from ear.config import Reach, RunConfig
from ear.config.hashed import hashed_values
from ear.config.loading import apply_overrides, validate
from ear.errors import UserError, shortened
from ear.files.writing import exists
from ear.store import Store
from ear.store.key_prefix import find_key, is_key_prefix, training_key
from ear.store.recorded_config import recorded_config
from ear.training.checkpoint import CHECKPOINT, load_header


@dataclass(frozen=True)
class Model:
    """A checkpoint, and the configuration to use it with."""

    checkpoint: Path
    config: RunConfig


def find_model(path: Path, root: Path) -> Model:
    """Return the checkpoint that `path` names, with its configuration.

    The configuration is the one stored in the checkpoint, but for an evaluation's key the one that was evaluated, and
    for SWEEP:best the best one. These can differ in sampling.* and evaluation.*, since evaluations share trainings.

    Args:
        path: as for `checkpoint_file`.
        root: the output root.

    Raises:
        UserError: there is no such checkpoint, or it is damaged.
    """
    if (named := _named_by_package(path, root)) is not None:
        return named
    file, evaluation = _find(path, root)
    if evaluation is not None:
        store, key = evaluation
        return Model(file, recorded_config(store, key))
    return Model(file, load_header(file).config)


def checkpoint_file(path: Path, root: Path) -> Path:
    """Return the checkpoint file that `path` names.

    Args:
        path: the file; the folder that contains it; the first digits of the key of a training or of one of its
            evaluations, alone (in the store below `root`) or in the path of a store, as in `runs/store/284beb59`; or
            SWEEP:best.
        root: the output root.

    Raises:
        UserError: there is no such file.
    """
    named = _named_by_package(path, root)
    return named.checkpoint if named is not None else _find(path, root)[0]


def _find(path: Path, root: Path) -> tuple[Path, tuple[Store, str] | None]:
    """The checkpoint file that a path or a key names, and the evaluation if the key is that of one."""
    file = path / CHECKPOINT if exists(path) and path.is_dir() else path
    if exists(file):
        return file, None
    folder = path.parent if path.name != str(path) else Store.folder_in(root)
    if is_key_prefix(path.name) and folder == Store.folder_in(folder.parent) and folder.is_dir():
        store = Store(folder.parent, reading=True)
        key = find_key(store, path.name)
        training = training_key(store, key)
        return store.path(training) / CHECKPOINT, None if key == training else (store, key)
    raise UserError(
        f"There is no checkpoint {shortened(str(file))}: `ear train` prints the path of the one it writes, and "
        "`ear store list` the keys of all, whose first digits are enough."
    )


def _named_by_package(path: Path, root: Path) -> Model | None:
    """The model that another package knows by name, as SWEEP:best; None if `path` is no such name.

    A package registers a function in the entry point group `ear.checkpoints`, under what follows the colon. It gets
    what precedes the colon and the output root, and returns the key of a training and a configuration.
    """
    name, colon, kind = str(path).rpartition(":")
    if not colon or exists(path):
        return None
    found = {entry.name: entry for entry in entry_points(group="ear.checkpoints")}
    if kind not in found:
        known = " or ".join(f"NAME:{each}" for each in sorted(found)) or "none without ear[analysis]"
        raise UserError(
            f"There is no checkpoint {shortened(str(path))}, and no package knows this name; known: {known}."
        )
    key, config = found[kind].load()(name, root)
    store = Store(root, reading=True)
    if key not in store:
        raise UserError(
            f"{path}: its training {key} is no longer in {store.folder}. Run the sweep again, which trains it."
        )
    return Model(store.path(key) / CHECKPOINT, config)


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
