"""Carries a store of format 1 over to today's keys, so that nothing in it is computed again.

Results stay as they are, byte for byte; what changes is the name under which they are found:

    training      known by the config.yaml beside it and the data's hash in its checkpoint, which must give its old key
    evaluation    recorded without its settings in format 1: they are looked for in every config.yaml below the output
                  root (trainings, MLflow's artifacts), and are the right ones where they give its old key
    unfinished    as a training
    uses          are rewritten to name the new keys
    extractor and reference have the same keys in both formats

ROOT/store/.migrated.json holds every old key with its new one. Killed in between, or called again with more settings to
look through, it goes on: an old result goes only after the new one and that file are there.
"""

import json
import os
import shutil
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from graphlib import TopologicalSorter
from pathlib import Path

import torch
import yaml

from ear.config import RunConfig
from ear.config.loading import read_yaml, validate
from ear.errors import UserError
from ear.files.writing import write_json, write_text
from ear.store.company import refuse_company
from ear.store.outdated import is_outdated
from ear.store.recognition import (
    CONFIG,
    Precision,
    Settings,
    Training,
    computed_in,
    recognise_evaluation,
    recognise_training,
)
from ear.store.store import ENTRY, FORMAT_VERSION, PUBLISHING, Entry, Store, hash_files
from ear.store.uses import recorded_uses
from ear.store.verify import file_faults, stray_files
from ear.training.checkpoint import CHECKPOINT, load_header, load_metadata, replace_config

NAMES = ".migrated.json"
DAMAGED = (UserError, OSError, KeyError, TypeError, ValueError, AttributeError)  # what odd files raise


@dataclass
class Migration:
    """What became of a store's results."""

    carried: dict[str, str] = field(default_factory=dict)  # old key -> new key, of trainings and evaluations
    unchanged: list[str] = field(default_factory=list)  # keys that are the same in both formats
    unfinished: dict[str, str] = field(default_factory=dict)  # old key -> new key
    left: dict[str, str] = field(default_factory=dict)  # key -> why it could not be carried over
    kinds: dict[str, str] = field(default_factory=dict)  # key -> training, evaluation, ..., as before
    lower: int = 0  # of the carried results, those that `auto` made in bfloat16


def migrate(root: Path, configs: Sequence[Path] = (), on_result: Callable[[], object] = lambda: None) -> Migration:
    """Carries the store below an output root over; what is of today's format stays as it is.

    Args:
        configs: further folders in which the settings of evaluations are looked for.
        on_result: called after each result.

    Raises:
        UserError: somebody works on it, or it can't be written.
    """
    store = Store(root, any_format=True)
    if store.format == FORMAT_VERSION and not (store.folder / NAMES).exists():
        return Migration()
    refuse_company(store, "migrate")
    work = _Work(store, Settings([root, *configs]))
    entries = {entry.key: entry for entry in work.entries()}
    for key in TopologicalSorter({key: entries[key].needs for key in entries}).static_order():
        if (entry := entries.get(key)) is not None:  # else needed, and not there
            work.carry(entry)
            on_result()
    work.carry_unfinished()
    work.rename_uses()
    work.remove_old()
    store.mark_format()
    return work.migration


class _Work:
    """One call's."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self.migration = Migration()
        self._store = store
        self._settings = settings
        self._started_from: set[str] = set()  # keys of results whose files trainings were fine-tuned from
        self._path = store.folder / NAMES
        self._names: dict[str, str] = json.loads(self._path.read_text()) if self._path.exists() else {}
        self._trainings = dict(self._carried_before())

    def _carried_before(self) -> Iterator[tuple[str, Training]]:
        for old, new in self._names.items():
            path = self._store.path(new) / CONFIG
            if new in self._store and self._store.entry(new).kind == "training":
                yield old, Training(validate(RunConfig, read_yaml(path), source=str(path)), new, ())

    def entries(self) -> Iterator[Entry]:
        for key in self._store.published():
            try:
                yield self._store.entry(key)
            except UserError as error:
                self.migration.left[key] = str(error)

    def carry(self, entry: Entry) -> None:
        self.migration.kinds[entry.key] = entry.kind
        try:
            with warnings.catch_warnings(action="ignore"):  # of settings that are long decided
                if entry.kind == "training":
                    self._carry_training(entry)
                elif entry.kind == "evaluation":
                    self._carry_evaluation(entry)
                else:
                    self.migration.unchanged.append(entry.key)
        except DAMAGED as error:
            self.migration.left[entry.key] = str(error) or type(error).__name__

    def _carry_training(self, entry: Entry) -> None:
        self._require_whole(entry)
        folder = self._store.path(entry.key)
        values = read_yaml(folder / CONFIG)
        hash_of_data = load_metadata(folder / CHECKPOINT)["dataset_hash"]
        training = recognise_training(entry.key, values, hash_of_data, computed_in(values, entry))
        if (initial := training.config.training.initial_checkpoint) is not None:
            self._started_from.add(Path(initial).parent.name)
        if training.key == entry.key:
            return  # of today
        for parent in training.ancestors:
            known = self._trainings.get(parent)
            if known is not None and known.precision != training.precision:
                raise UserError("its stages were trained in different precisions, which no configuration describes")
        self._republish(entry, training.key, training.config)
        self._trainings[entry.key] = training

    def _carry_evaluation(self, entry: Entry) -> None:
        if (self._store.path(entry.key) / CONFIG).exists():
            return  # of today
        if is_outdated(self._store, entry):
            raise UserError("it was compared with images of a folder, not known by their content: evaluate anew")
        self._require_whole(entry)
        training = self._trainings.get(entry.details["training"])
        if training is None:
            raise UserError("what it evaluated is not in this store, or can't be carried over")
        config, key = recognise_evaluation(entry, training, self._settings)
        self._republish(entry, key, config)

    def _require_whole(self, entry: Entry) -> None:
        found = hash_files(self._store.path(entry.key))
        faults = file_faults(entry, found) + [f"{name} does not belong here" for name in stray_files(entry, found)]
        if faults:
            raise UserError(f"damaged: {'; '.join(faults)}")

    def _republish(self, entry: Entry, key: str, config: RunConfig) -> None:
        """The same files, hard links where the file system has them, under another key, and the configuration as it is
        written now; weights and all other tensors keep their bytes."""
        if key not in self._store:  # else an earlier call was killed after it
            old = self._store.path(entry.key)
            temporary = self._store.work / f"{PUBLISHING}{uuid.uuid4().hex}"
            try:
                shutil.copytree(old, temporary, copy_function=_link)
                write_text(temporary / CONFIG, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
                if entry.kind == "training":
                    _state_precision(temporary / CHECKPOINT, config)
                details = {**entry.details}
                if "training" in details:
                    details["training"] = self._renamed(details["training"])
                needs = tuple(map(self._renamed, entry.needs))
                new = replace(entry, key=key, details=details, needs=needs, files=hash_files(temporary))
                new.write(temporary / ENTRY)
                shutil.copystat(old / ENTRY, temporary / ENTRY)  # as old as before, for forecasts
                temporary.rename(self._store.path(key))
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
        self.migration.carried[entry.key] = key
        self.migration.lower += config.execution.precision == "bfloat16"

    def _renamed(self, key: str) -> str:
        return self._trainings[key].key if key in self._trainings else key

    def carry_unfinished(self) -> None:
        """Checkpoints of unfinished stages. `auto` is taken for what the finished trainings were computed in."""
        known = {training.precision for training in self._trainings.values()}
        here: Precision = "bfloat16" if torch.cuda.is_available() else "float32"
        for path in sorted(self._store.work.glob(f"*/{CHECKPOINT}")):
            key = path.parent.name
            try:
                metadata = load_metadata(path)
                values = json.loads(metadata["config"])
                if len(known) > 1 and values["execution"]["precision"] == "auto":
                    raise UserError("unfinished, and nothing tells in which precision")
                training = recognise_training(key, values, metadata["dataset_hash"], next(iter(known), here))
                if training.key == key:
                    continue  # of today
                _state_precision(path, training.config)
                self.migration.unfinished[key] = training.key
                self._remember()
                path.parent.rename(self._store.workspace(training.key))
            except DAMAGED as error:
                self.migration.unfinished.pop(key, None)
                self.migration.left[key] = str(error)
                self.migration.kinds[key] = "unfinished"

    def _remember(self) -> None:
        self._names |= {**self.migration.carried, **self.migration.unfinished}
        write_json(self._path, self._names)

    def rename_uses(self) -> None:
        self._remember()
        for use in recorded_uses(self._store):
            keys = sorted({self._names.get(key, key) for key in use.keys})
            values = json.loads(use.path.read_text(encoding="utf-8"))
            write_json(use.path, {**values, "keys": keys})

    def remove_old(self) -> None:
        """But for those whose files other configurations name, which started from them."""
        for old in self.migration.carried.keys() - self._started_from:
            self._store.discard(self._store.path(old))


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _state_precision(checkpoint: Path, config: RunConfig) -> None:
    if load_header(checkpoint).config.execution.precision != config.execution.precision:
        replace_config(checkpoint, config)
