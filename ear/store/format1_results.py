"""Finds the configuration and the current key of a result of format 1.

A result is recognised only if the recorded configuration gives its old key. Values that were not recorded are never
guessed.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ear.config import RunConfig
from ear.config.earlier import resolve_auto_precision
from ear.config.hashing import digest
from ear.config.loading import read_yaml, validate
from ear.errors import UserError
from ear.store.earlier_keys import (
    SETTINGS,
    TRAINING,
    earlier_evaluation_key,
    earlier_stage_keys,
    without_locations,
)
from ear.store.keys import evaluation_key, stage_keys
from ear.store.store import Entry

CONFIG = "config.yaml"
Values = Mapping[str, Any]  # of a resolved configuration
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Training:
    """A recognised training stage."""

    config: RunConfig  # with the precision that it was computed in
    key: str  # current
    ancestors: tuple[str, ...]  # format 1 keys of the stages before

    @property
    def values(self) -> Values:
        """The configuration as JSON values."""
        return self.config.model_dump(mode="json")

    @property
    def precision(self) -> Precision:
        """The precision that it was computed in."""
        return self.config.execution.precision


def computed_in(values: Values, entry: Entry) -> Precision:
    """The precision that `auto` meant on the machine that computed the result."""
    on_gpu = values["execution"]["device"] != "cpu" and entry.provenance.get("accelerator") is not None
    return "bfloat16" if on_gpu else "float32"


def recognise_training(key: str, values: Values, dataset_hash: str, auto: Precision) -> Training:
    """Recognise the training with this key from its recorded configuration.

    Args:
        auto: the precision that `auto` meant.

    Raises:
        UserError: the key is not that of the configuration, or the configuration is no longer valid.
    """
    config = validate(RunConfig, resolve_auto_precision(dict(values), auto), source="its configuration")
    today = stage_keys(config, dataset_hash)
    if key in today:
        return Training(config, key, ())
    earlier = earlier_stage_keys(values, dataset_hash)
    if key not in earlier:
        raise UserError("its key does not match the configuration recorded with it")
    stage = earlier.index(key)
    return Training(config, today[stage], earlier[:stage])


class Settings:
    """Recorded configurations that may be the settings of evaluations."""

    def __init__(self, folders: Iterable[Path]) -> None:
        """Read every config.yaml below these folders; configurations that differ only in execution count once."""
        found: dict[str, Values] = {}
        for path in (path for folder in folders for path in sorted(folder.rglob(CONFIG))):
            with suppress(UserError, OSError, KeyError, TypeError, ValueError, AttributeError):  # of another program
                values = read_yaml(path)
                parts = [values[section] for section in (*TRAINING, *SETTINGS)]
                known = digest([parts, values["execution"]["precision"], values["execution"]["device"]])
                found.setdefault(known, values)
        self._known = list(found.values())
        self._of: tuple[str, str] = "", ""  # training and reference
        self._keys: dict[str, list[Values]] = {}  # evaluation key -> settings, for this training and reference

    def find(self, key: str, training: str, reference: str) -> list[Values]:
        """The settings that give the evaluation of `training` against `reference` this key in format 1."""
        if self._of != (training, reference):
            self._of, self._keys = (training, reference), {}
            for values in self._known:
                with suppress(UserError, OSError, KeyError, TypeError):  # the autoencoder no longer exists
                    self._keys.setdefault(earlier_evaluation_key(training, values, reference), []).append(values)
        return self._keys.get(key, [])


def recognise_evaluation(entry: Entry, training: Training, settings: Settings) -> tuple[RunConfig, str]:
    """An evaluation's configuration and its current key.

    Raises:
        UserError: its settings were not found, or its reference or precision is not recorded.
    """
    if len(entry.needs) < 2:
        raise UserError("its reference is not recorded")
    reference = entry.needs[1]
    found = settings.find(entry.key, entry.details["training"], reference)
    if not found:
        raise UserError("no config.yaml has its settings, or their autoencoder no longer exists")
    # Settings of other trainings have the same sampling and evaluation but may have another precision.
    own = list(_of_the_same_training(found, training)) or [{**training.values, "execution": _unresolved(training)}]
    precisions = {resolve_auto_precision(dict(v), computed_in(v, entry))["execution"]["precision"] for v in own}
    if len(precisions) > 1:
        raise UserError("its settings were found with two precisions, which had the same key")
    execution = {**training.values["execution"], "precision": precisions.pop()}
    values = {**training.values, **{name: found[0][name] for name in (*SETTINGS, "tokenizer")}, "execution": execution}
    config = validate(RunConfig, values, source="its configuration")
    if config.evaluation.images < config.data.classes:
        raise UserError("it has fewer images than classes, for which earlier versions sampled only the first classes")
    return config, evaluation_key(training.key, config, reference)


def _of_the_same_training(found: Iterable[Values], training: Training) -> Iterator[Values]:
    trained = [without_locations(training.values[section]) for section in TRAINING]
    for values in found:
        if [without_locations(values[section]) for section in TRAINING] == trained:
            yield values


def _unresolved(training: Training) -> dict[str, Any]:
    """A training's `execution` section, with bfloat16 replaced by the `auto` that it came from."""
    execution = dict(training.values["execution"])
    return {**execution, "precision": "auto"} if training.precision == "bfloat16" else execution
