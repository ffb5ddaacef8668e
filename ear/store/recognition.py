"""What a result of format 1 is: its configuration, and the key that it has today.

A result is only recognised where what is recorded of it gives its old key. What is recorded nowhere is never guessed.
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
    """A stage of a training."""

    config: RunConfig  # with the precision that it was computed in
    key: str  # today's
    ancestors: tuple[str, ...]  # keys in format 1 of the stages before

    @property
    def values(self) -> Values:
        return self.config.model_dump(mode="json")

    @property
    def precision(self) -> Precision:
        return self.config.execution.precision


def computed_in(values: Values, entry: Entry) -> Precision:
    """What `precision: auto` was on the machine that made the result."""
    on_gpu = values["execution"]["device"] != "cpu" and entry.provenance.get("accelerator") is not None
    return "bfloat16" if on_gpu else "float32"


def recognise_training(key: str, values: Values, dataset_hash: str, auto: Precision) -> Training:
    """The training that lies under this key, by its recorded configuration, in which `auto` stood for this precision.

    Raises:
        UserError: they do not belong together, or the configuration is not valid any more.
    """
    config = validate(RunConfig, resolve_auto_precision(dict(values), auto), source="its configuration")
    today = stage_keys(config, dataset_hash)
    if key in today:
        return Training(config, key, ())
    earlier = earlier_stage_keys(values, dataset_hash)
    if key not in earlier:
        raise UserError("its key is not that of the configuration recorded with it")
    stage = earlier.index(key)
    return Training(config, today[stage], earlier[:stage])


class Settings:
    """The configurations that evaluations may have been made by, found in files."""

    def __init__(self, folders: Iterable[Path]) -> None:
        """Reads every config.yaml below these folders; what only differs in `seed` or execution counts once."""
        found: dict[str, Values] = {}
        for path in (path for folder in folders for path in sorted(folder.rglob(CONFIG))):
            with suppress(UserError, OSError, KeyError, TypeError, ValueError, AttributeError):  # another program's
                values = read_yaml(path)
                parts = [values[section] for section in (*TRAINING, *SETTINGS)]
                known = digest([parts, values["execution"]["precision"], values["execution"]["device"]])
                found.setdefault(known, values)
        self._known = list(found.values())
        self._of: tuple[str, str] = "", ""  # training and reference
        self._keys: dict[str, list[Values]] = {}  # key -> settings, of these two

    def find(self, key: str, training: str, reference: str) -> list[Values]:
        """Those by which this training's evaluation against this reference has this key in format 1."""
        if self._of != (training, reference):
            self._of, self._keys = (training, reference), {}
            for values in self._known:
                with suppress(UserError, OSError, KeyError, TypeError):  # its autoencoder is gone
                    self._keys.setdefault(earlier_evaluation_key(training, values, reference), []).append(values)
        return self._keys.get(key, [])


def recognise_evaluation(entry: Entry, training: Training, settings: Settings) -> tuple[RunConfig, str]:
    """An evaluation's configuration, and its key today.

    Raises:
        UserError: its settings are recorded nowhere, or do not say in which precision it was made.
    """
    if len(entry.needs) < 2:
        raise UserError("it does not say what it was compared with")
    reference = entry.needs[1]
    found = settings.find(entry.key, entry.details["training"], reference)
    if not found:
        raise UserError("its settings are recorded nowhere, or the autoencoder that they name is gone")
    # Settings of other trainings have the same sampling and evaluation, and another precision, perhaps.
    own = list(_of_the_same_training(found, training)) or [{**training.values, "execution": _unresolved(training)}]
    precisions = {resolve_auto_precision(dict(v), computed_in(v, entry))["execution"]["precision"] for v in own}
    if len(precisions) > 1:
        raise UserError("its settings are recorded with two precisions, and its key was the same in both")
    execution = {**training.values["execution"], "precision": precisions.pop()}
    values = {**training.values, **{name: found[0][name] for name in (*SETTINGS, "tokenizer")}, "execution": execution}
    config = validate(RunConfig, values, source="its configuration")
    if config.evaluation.images < config.data.classes:
        raise UserError("it has fewer images than there are classes, and earlier versions drew the first classes only")
    return config, evaluation_key(training.key, config, reference)


def _of_the_same_training(found: Iterable[Values], training: Training) -> Iterator[Values]:
    trained = [without_locations(training.values[section]) for section in TRAINING]
    for values in found:
        if [without_locations(values[section]) for section in TRAINING] == trained:
            yield values


def _unresolved(training: Training) -> dict[str, Any]:
    """A training's `execution`, bfloat16 read as the `auto` that it was where nothing says more."""
    execution = dict(training.values["execution"])
    return {**execution, "precision": "auto"} if training.precision == "bfloat16" else execution
