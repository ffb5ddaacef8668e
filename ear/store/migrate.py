"""Carries a store of format 1 over to today's keys, so that nothing in it is computed again.

Results stay as they are, byte for byte; what changes is the name under which they are found:

    training      known by the config.yaml beside it and the data's hash in its checkpoint, which must give its old key
    evaluation    recorded without its settings in format 1: they are looked for in every config.yaml below the output
                  root (trainings, MLflow's artifacts), and are the right ones where they give its old key
    unfinished    as a training
    uses          are rewritten to name the new keys
    extractor and reference have the same keys in both formats

Killed in between, the same call goes on: an old result goes only after the new one is there.
"""

import json
import os
import shutil
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, Literal

import torch
import yaml

from ear.config import RunConfig
from ear.config.earlier import resolve_auto_precision
from ear.config.hashing import digest
from ear.config.loading import read_yaml, validate
from ear.errors import UserError
from ear.files import write_json, write_text
from ear.store.earlier_keys import SETTINGS, earlier_evaluation_key, earlier_stage_keys
from ear.store.keys import evaluation_key, stage_keys
from ear.store.store import FORMAT_VERSION, LEASES, PUBLISHING, TRASH, Entry, Store, hash_files
from ear.store.uses import recorded_uses
from ear.store.verify import file_faults
from ear.training.checkpoint import CHECKPOINT, load_header, load_metadata, replace_config

CONFIG = "config.yaml"
EVALUATION = "evaluation"
Values = Mapping[str, Any]  # of a resolved configuration
Precision = Literal["float32", "bfloat16"]


@dataclass
class Migration:
    """What became of a store's results."""

    carried: dict[str, str] = field(default_factory=dict)  # old key -> new key, of trainings and evaluations
    unchanged: list[str] = field(default_factory=list)  # keys that are the same in both formats
    unfinished: dict[str, str] = field(default_factory=dict)  # old key -> new key
    left: dict[str, str] = field(default_factory=dict)  # key -> why it could not be carried over
    kinds: dict[str, str] = field(default_factory=dict)  # key -> training, evaluation, ..., as before


@dataclass(frozen=True)
class _Training:
    stage: int
    config: RunConfig  # with the precision that it was computed in
    key: str  # today's
    ancestors: tuple[str, ...]  # keys in format 1 of the stages before


def migrate(root: Path, configs: Sequence[Path] = (), on_result: Callable[[], object] = lambda: None) -> Migration:
    """Carries the store below an output root over; one of today's format stays as it is.

    Args:
        configs: further folders in which the settings of evaluations are looked for.
        on_result: called after each result.

    Raises:
        UserError: somebody works on it, or it can't be written.
    """
    store = Store(root, any_format=True)
    migration = Migration()
    if store.format == FORMAT_VERSION:
        return migration
    _refuse_company(store)
    entries = {entry.key: entry for entry in _entries(store, migration)}
    trainings: dict[str, _Training] = {}
    settings = _Settings([root, *configs])
    for key in TopologicalSorter({key: entries[key].needs for key in entries}).static_order():
        if (entry := entries.get(key)) is None:
            continue  # needed, and not there
        migration.kinds[entry.key] = entry.kind
        try:
            with warnings.catch_warnings(action="ignore"):  # of settings that are long decided
                _carry(store, entry, trainings, settings, migration)
        except UserError as error:
            migration.left[entry.key] = str(error)
        on_result()
    _carry_unfinished(store, trainings, migration)
    _carry_uses(store, {**migration.carried, **migration.unfinished})
    # Evaluations first: the next call, after a kill, still finds the trainings of those that are left.
    for old in sorted(migration.carried, key=lambda old: migration.kinds[old] != EVALUATION):
        trash = store.work / f"{TRASH}{uuid.uuid4().hex}"
        store.path(old).rename(trash)
        shutil.rmtree(trash, ignore_errors=True)
    store.mark_format()
    return migration


def _refuse_company(store: Store) -> None:
    for path in (store.work / LEASES).glob("*.lease"):
        with store.lease(path.stem) as lease:
            if not lease.acquire():
                raise UserError(f"Somebody works on {store.folder} ({path.name}): stop it, then migrate.")


def _entries(store: Store, migration: Migration) -> Iterator[Entry]:
    for key in store.published():
        try:
            yield store.entry(key)
        except UserError as error:
            migration.left[key] = str(error)


class _Settings:
    """The configurations that evaluations may have been made by, by the keys that they give."""

    def __init__(self, folders: Iterable[Path]) -> None:
        """Reads every config.yaml below these folders; each sampling and evaluation counts once."""
        found: dict[str, Values] = {}
        for path in (path for folder in folders for path in sorted(folder.rglob(CONFIG))):
            try:
                values = read_yaml(path)
                known = digest([values[section] for section in (*SETTINGS, "tokenizer", "execution")])
            except (UserError, KeyError):
                continue  # some other program's config.yaml
            found.setdefault(known, values)
        self._known = list(found.values())
        self._keys: dict[tuple[str, str], dict[str, list[Values]]] = {}  # (training, reference) -> key -> settings

    def find(self, key: str, training: str, reference: str) -> list[Values]:
        """Those by which this training's evaluation against this reference has this key in format 1."""
        if (training, reference) not in self._keys:
            keys: dict[str, list[Values]] = {}
            for values in self._known:
                with suppress(UserError, KeyError):  # another dataset's, or its autoencoder is gone
                    keys.setdefault(earlier_evaluation_key(training, values, reference), []).append(values)
            self._keys[training, reference] = keys
        return self._keys[training, reference].get(key, [])


def _carry(
    store: Store,
    entry: Entry,
    trainings: dict[str, _Training],
    settings: _Settings,
    migration: Migration,
) -> None:
    """
    Raises:
        UserError: it can't be carried over, and why.
    """
    if entry.kind not in ("training", EVALUATION):
        migration.unchanged.append(entry.key)
        return
    if faults := file_faults(entry, hash_files(store.path(entry.key))):
        raise UserError(f"damaged: {'; '.join(faults)}")
    if entry.kind == "training":
        training = _training(store, entry, trainings)
        if training.key == entry.key:  # an earlier call was killed after it
            trainings[entry.key] = training
            return
        new = replace(entry, key=training.key, needs=tuple(_renamed(entry.needs, trainings)))
        _republish(store, entry, new, lambda folder: _rewrite_training(folder, training.config))
        trainings[entry.key] = training
    else:
        config, key = _evaluation(store, entry, trainings, settings)
        if key == entry.key:
            return
        old = entry.details["training"]
        new = replace(
            entry,
            key=key,
            needs=tuple(_renamed(entry.needs, trainings)),
            details={**entry.details, "training": trainings[old].key if old in trainings else old},
        )
        _republish(store, entry, new, lambda folder: _write_config(folder, config))
    migration.carried[entry.key] = new.key


def _renamed(keys: Iterable[str], trainings: Mapping[str, _Training]) -> Iterator[str]:
    return (trainings[key].key if key in trainings else key for key in keys)


def _training(store: Store, entry: Entry, trainings: Mapping[str, _Training]) -> _Training:
    folder = store.path(entry.key)
    values = read_yaml(folder / CONFIG)
    training = _recognise(
        entry.key,
        values,
        load_metadata(folder / CHECKPOINT)["dataset_hash"],
        _computed_in(values, entry),
    )
    for parent in training.ancestors:
        known = trainings.get(parent)
        if known is not None and known.config.execution.precision != training.config.execution.precision:
            raise UserError("its stages were trained in different precisions, which no configuration describes")
    return training


def _recognise(key: str, values: dict[str, Any], dataset_hash: str, auto: Precision) -> _Training:
    """The training that lies under this key, by its recorded configuration, in which `auto` stood for this precision.

    Raises:
        UserError: they do not belong together, or the configuration is not valid any more.
    """
    config = validate(RunConfig, resolve_auto_precision(values, auto), source="its configuration")
    today = stage_keys(config, dataset_hash)
    if key in today:
        stage = today.index(key)
        return _Training(stage, config, key, ())
    earlier = earlier_stage_keys(values, dataset_hash)
    if key not in earlier:
        raise UserError("its key is not that of the configuration recorded with it")
    stage = earlier.index(key)
    return _Training(stage, config, today[stage], earlier[:stage])


def _computed_in(values: Values, entry: Entry) -> Precision:
    """What `precision: auto` was on the machine that made the result."""
    on_gpu = values["execution"]["device"] != "cpu" and entry.provenance.get("accelerator") is not None
    return "bfloat16" if on_gpu else "float32"


def _evaluation(
    store: Store, entry: Entry, trainings: Mapping[str, _Training], settings: _Settings
) -> tuple[RunConfig, str]:
    """An evaluation's configuration and today's key.

    Raises:
        UserError: it rests on what can't be carried over, or its settings are recorded nowhere.
    """
    if (store.path(entry.key) / CONFIG).exists():  # carried over by an earlier call
        config = validate(RunConfig, read_yaml(store.path(entry.key) / CONFIG), source="its configuration")
        return config, entry.key
    if len(entry.needs) < 2:
        raise UserError("it does not say what it was compared with")
    old, reference = entry.details["training"], entry.needs[1]
    training = trainings.get(old)
    if training is None and old in store:
        raise UserError("its training can't be carried over")
    found = [
        resolve_auto_precision(dict(values), _computed_in(values, entry))
        for values in settings.find(entry.key, old, reference)
    ]
    if not found:
        raise UserError("its settings are recorded nowhere")
    if len({values["execution"]["precision"] for values in found}) > 1:
        raise UserError("its settings are recorded with two precisions, and its key was the same in both")
    resolved = found[0]
    if training is not None:
        trained = training.config.model_dump(mode="json")
        resolved = {**trained, **{name: resolved[name] for name in (*SETTINGS, "tokenizer", "execution")}}
    config = validate(RunConfig, resolved, source="its configuration")
    return config, evaluation_key(training.key if training else old, config, reference)


def _republish(store: Store, entry: Entry, new: Entry, change: Callable[[Path], object]) -> None:
    """The same files, hard links where the file system has them, under another key."""
    if new.key in store:  # an earlier call was killed after it
        return
    temporary = store.work / f"{PUBLISHING}{uuid.uuid4().hex}"
    shutil.copytree(store.path(entry.key), temporary, copy_function=_link)
    change(temporary)
    write_json(temporary / "entry.json", asdict(replace(new, files=hash_files(temporary))))
    temporary.rename(store.path(new.key))


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _rewrite_training(folder: Path, config: RunConfig) -> None:
    """The configuration as it is now; weights and all other tensors keep their bytes."""
    _write_config(folder, config)
    _state_precision(folder / CHECKPOINT, config)


def _state_precision(checkpoint: Path, config: RunConfig) -> None:
    if load_header(checkpoint).config.execution.precision != config.execution.precision:
        replace_config(checkpoint, config)


def _write_config(folder: Path, config: RunConfig) -> None:
    write_text(folder / CONFIG, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))


def _carry_unfinished(store: Store, trainings: Mapping[str, _Training], migration: Migration) -> None:
    """Checkpoints of unfinished stages. `auto` is taken for what the store's finished trainings were computed in."""
    known = {training.config.execution.precision for training in trainings.values()}
    here: Precision = "bfloat16" if torch.cuda.is_available() else "float32"
    for path in sorted(store.work.glob(f"*/{CHECKPOINT}")):
        key = path.parent.name
        try:
            metadata = load_metadata(path)
            values = json.loads(metadata["config"])
            if len(known) > 1 and values["execution"]["precision"] == "auto":
                raise UserError("unfinished, and nothing tells in which precision")
            training = _recognise(key, values, metadata["dataset_hash"], next(iter(known), here))
            if training.key == key:  # an earlier call was killed after it
                continue
            _state_precision(path, training.config)
            path.parent.rename(store.workspace(training.key))
            migration.unfinished[key] = training.key
        except (UserError, OSError) as error:
            migration.left[key] = str(error)
            migration.kinds[key] = "unfinished"


def _carry_uses(store: Store, renamed: Mapping[str, str]) -> None:
    for use in recorded_uses(store):
        keys = sorted({renamed.get(key, key) for key in use.keys})
        values = json.loads(use.path.read_text(encoding="utf-8"))
        write_json(use.path, {**values, "keys": keys})
