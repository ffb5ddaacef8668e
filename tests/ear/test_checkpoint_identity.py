"""As what a checkpoint file is evaluated: as a result only where its bytes are those that were published."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from store_parts import A, B, publish

from ear.config import load_config
from ear.data import load_dataset
from ear.process.distributed import Processes
from ear.store import Store
from ear.store.checkpoint_identity import checkpoint_keys
from ear.training.checkpoint import CHECKPOINT


def training(store: Store, name: str, content: str) -> Path:
    return publish(store, name, **{CHECKPOINT: content}) / CHECKPOINT


def known_as(checkpoint: Path, store: Store) -> str:
    config = load_config("digits")
    return checkpoint_keys(config, load_dataset(config.data), checkpoint, store).training


def test_a_published_file_is_known_by_its_key_by_whichever_way_it_is_reached(store: Store, tmp_path: Path) -> None:
    checkpoint = training(store, A, "weights")
    (tmp_path / "best").symlink_to(checkpoint.parent)
    (tmp_path / "best.safetensors").symlink_to(checkpoint)
    (tmp_path / "alias").symlink_to(store.folder.parent)
    shutil.copytree(store.folder.parent, tmp_path / "copy")
    for path in (checkpoint, tmp_path / "best" / CHECKPOINT, tmp_path / "best.safetensors"):
        assert known_as(path, store) == A
    assert known_as(tmp_path / "alias" / "store" / A / CHECKPOINT, store) == A
    assert known_as(tmp_path / "copy" / "store" / A / CHECKPOINT, Store(tmp_path / "copy")) == A
    assert known_as(tmp_path / "copy" / "store" / A / CHECKPOINT, store) != A


def into_a_copy(store: Store, other: Path, folder: Path) -> Path:
    """`cp -r store/A best`, then B in its place."""
    shutil.copytree(store.path(A), folder / "best")
    shutil.copy(other, folder / "best" / CHECKPOINT)
    return folder / "best" / CHECKPOINT


def into_a_folder_of_that_name(store: Store, other: Path, folder: Path) -> Path:
    shutil.copytree(store.path(A), folder / A)
    shutil.copy(other, folder / A / CHECKPOINT)
    return folder / A / CHECKPOINT


def into_the_store(store: Store, other: Path, _: Path) -> Path:
    shutil.copy(other, store.path(A) / CHECKPOINT)
    return store.path(A) / CHECKPOINT


def by_renaming(store: Store, other: Path, folder: Path) -> Path:
    store.path(A).rename(folder / "away")
    other.parent.rename(store.path(A))
    return store.path(A) / CHECKPOINT


def under_a_link(store: Store, other: Path, _: Path) -> Path:
    (store.path(A) / CHECKPOINT).unlink()
    (store.path(A) / CHECKPOINT).symlink_to(other)
    return store.path(A) / CHECKPOINT


def without_hashes(store: Store, other: Path, folder: Path) -> Path:
    entry = json.loads((store.path(A) / "entry.json").read_text())
    (store.path(A) / "entry.json").write_text(json.dumps({**entry, "files": {}}))
    return into_the_store(store, other, folder)


@pytest.mark.parametrize(
    "put", [into_a_copy, into_a_folder_of_that_name, into_the_store, by_renaming, under_a_link, without_hashes]
)
def test_another_file_under_a_result_s_name_is_not_that_result(
    put: Callable[[Store, Path, Path], Path], store: Store, tmp_path: Path
) -> None:
    training(store, A, "weights")
    other = training(store, B, "Weights")
    key = known_as(put(store, other, tmp_path), store)
    assert key not in (A, B) or (put is under_a_link and key == B)


def test_of_several_processes_the_main_one_reads_the_checkpoint(store: Store, tmp_path: Path) -> None:
    class Second(Processes):
        def from_main(self, value: object) -> Any:
            return A

    config = load_config("digits")
    keys = checkpoint_keys(config, load_dataset(config.data), tmp_path / "not here", store, Second(1, 2))
    assert keys.training == A


def test_a_file_that_is_exchanged_keeping_size_and_time_is_another(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    file.write_text("weights")
    first, times = known_as(file, store), (file.stat().st_atime_ns, file.stat().st_mtime_ns)
    file.write_text("Weights")
    os.utime(file, ns=times)
    assert known_as(file, store) != first
