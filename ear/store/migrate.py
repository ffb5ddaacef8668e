"""Migrates a store of format 1 to the current keys, so that none of its results is computed again.

The content of results stays the same, byte for byte; only their keys change:

    training      identified by its config.yaml and the dataset's hash in its checkpoint, which must give its old key
    evaluation    format 1 did not record its settings: they are searched in every config.yaml below the output root
                  (trainings, MLflow's artifacts), and must give its old key
    unfinished    like a training
    uses          are rewritten with the new keys
    extractor and reference have the same keys in both formats

ROOT/store/.migrated.json maps every old key to its new one. A migration that was killed, or that is run again with more
folders of settings, continues: an old result is removed only after the new one and that file have been written.
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
from ear.store.format1_results import (
    CONFIG,
    Precision,
    Settings,
    Training,
    computed_in,
    recognise_evaluation,
    recognise_training,
)
from ear.store.in_use import require_unused
from ear.store.outdated import is_outdated
from ear.store.store import ENTRY, FORMAT_VERSION, PUBLISHING, Entry, Store, hash_files
from ear.store.uses import recorded_uses
from ear.store.verify import file_faults, unpublished_files
from ear.training.checkpoint import CHECKPOINT, load_header, load_metadata, replace_config

NAMES = ".migrated.json"
DAMAGED = (UserError, OSError, KeyError, TypeError, ValueError, AttributeError)  # errors that damaged files raise


@dataclass
class Migration:
    """The outcome of a migration."""

    carried: dict[str, str] = field(default_factory=dict)  # old key -> new key, of trainings and evaluations
    unchanged: list[str] = field(default_factory=list)  # keys that are the same in both formats
    unfinished: dict[str, str] = field(default_factory=dict)  # old key -> new key, of unfinished stages
    left: dict[str, str] = field(default_factory=dict)  # key -> why it could not be migrated
    kinds: dict[str, str] = field(default_factory=dict)  # old key -> training, evaluation, ...
    lower: int = 0  # number of migrated results that `auto` computed in bfloat16


def migrate(root: Path, configs: Sequence[Path] = (), on_result: Callable[[], object] = lambda: None) -> Migration:
    """Migrate the store below an output root. Results in the current format stay as they are.

    Args:
        configs: more folders in which to search the settings of evaluations.
        on_result: called after each result.

    Raises:
        UserError: a process is using the store, or it can't be written.
    """
    store = Store(root, any_format=True)
    if store.format == FORMAT_VERSION and not (store.folder / NAMES).exists():
        return Migration()
    require_unused(store, "migrate")
    work = _Work(store, Settings([root, *configs]))
    entries = {entry.key: entry for entry in work.entries()}
    for key in TopologicalSorter({key: entries[key].needs for key in entries}).static_order():
        if (entry := entries.get(key)) is not None:  # otherwise a dependency that does not exist
            work.carry(entry)
            on_result()
    work.carry_unfinished()
    work.rename_uses()
    work.remove_old()
    store.mark_format()
    return work.migration


class _Work:
    """The state of one migration."""

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
        """The readable entries; records the others as not migrated."""
        for key in self._store.published():
            try:
                yield self._store.entry(key)
            except UserError as error:
                self.migration.left[key] = str(error)

    def carry(self, entry: Entry) -> None:
        """Migrate one result, or record why it can't be migrated."""
        self.migration.kinds[entry.key] = entry.kind
        try:
            with warnings.catch_warnings(action="ignore"):  # about settings that were chosen long ago
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
            return  # current already
        for parent in training.ancestors:
            known = self._trainings.get(parent)
            if known is not None and known.precision != training.precision:
                raise UserError("its stages were trained in different precisions, which no configuration can describe")
        self._republish(entry, training.key, training.config)
        self._trainings[entry.key] = training

    def _carry_evaluation(self, entry: Entry) -> None:
        if (self._store.path(entry.key) / CONFIG).exists():
            return  # current already
        if is_outdated(self._store, entry):
            raise UserError("the images that it was compared with were not identified by content: evaluate again")
        self._require_whole(entry)
        training = self._trainings.get(entry.details["training"])
        if training is None:
            raise UserError("the training that it evaluates is not in this store, or can't be migrated")
        config, key = recognise_evaluation(entry, training, self._settings)
        self._republish(entry, key, config)

    def _require_whole(self, entry: Entry) -> None:
        found = hash_files(self._store.path(entry.key))
        faults = file_faults(entry, found) + [f"{name} was not published" for name in unpublished_files(entry, found)]
        if faults:
            raise UserError(f"damaged: {'; '.join(faults)}")

    def _republish(self, entry: Entry, key: str, config: RunConfig) -> None:
        """Publish the files of a result under another key, with the configuration in the current form.

        Files are hard links where the file system supports them. All tensors keep their bytes.
        """
        if key not in self._store:  # otherwise an earlier call was killed after this
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
                shutil.copystat(old / ENTRY, temporary / ENTRY)  # keep the age, for forecasts
                temporary.rename(self._store.path(key))
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
        self.migration.carried[entry.key] = key
        self.migration.lower += config.execution.precision == "bfloat16"

    def _renamed(self, key: str) -> str:
        return self._trainings[key].key if key in self._trainings else key

    def carry_unfinished(self) -> None:
        """Migrate the checkpoints of unfinished stages. `auto` is resolved to the precision of finished trainings."""
        known = {training.precision for training in self._trainings.values()}
        here: Precision = "bfloat16" if torch.cuda.is_available() else "float32"
        for path in sorted(self._store.work.glob(f"*/{CHECKPOINT}")):
            key = path.parent.name
            try:
                metadata = load_metadata(path)
                values = json.loads(metadata["config"])
                if len(known) > 1 and values["execution"]["precision"] == "auto":
                    raise UserError("unfinished, and its precision is not recorded")
                training = recognise_training(key, values, metadata["dataset_hash"], next(iter(known), here))
                if training.key == key:
                    continue  # current already
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
        """Rewrite the recorded uses with the new keys."""
        self._remember()
        for use in recorded_uses(self._store):
            keys = sorted({self._names.get(key, key) for key in use.keys})
            values = json.loads(use.path.read_text(encoding="utf-8"))
            write_json(use.path, {**values, "keys": keys})

    def remove_old(self) -> None:
        """Remove the migrated results under their old keys, except those that other trainings were fine-tuned from."""
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
