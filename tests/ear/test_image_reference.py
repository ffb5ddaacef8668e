"""Real images are known by their content: what is compared with them is never served for others."""

import hashlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import torch
from encoding_parts import SIZE, encode, write_images
from PIL import Image
from torch import Tensor, nn

from ear.config import RunConfig, load_config
from ear.data import file_hashes as file_hashes_module
from ear.data import load_dataset
from ear.data.file_hashes import file_hashes, unread
from ear.data.folder_dataset import FolderDataset
from ear.errors import UserError
from ear.evaluation.evaluate import evaluate
from ear.evaluation.extractors import Extractor
from ear.evaluation.reference import load_reference
from ear.process.distributed import Processes
from ear.process.interrupt import StoppedError
from ear.run import Run
from ear.store import Store, reference_keys, run_keys
from ear.store.checkpoint_identity import checkpoint_keys
from ear.store.keys import require_known_reference
from ear.training.checkpoint import CHECKPOINT


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))


class MeanColour(nn.Module):
    """Three features: the mean of each channel."""

    def forward(self, images: Tensor) -> tuple[Tensor, None]:
        return images.double().mean(dim=(2, 3)), None


EXTRACTOR = Extractor("mean-colour", MeanColour(), torch.device("cpu"), None, "hash")


def grey_images(folder: Path, levels: list[int]) -> Path:
    """One class of images that are all grey, as bitmaps: files of one size whatever is in them."""
    (folder / "class").mkdir(parents=True)
    for number, level in enumerate(levels):
        Image.fromarray(np.full((SIZE, SIZE, 3), level, np.uint8)).save(folder / "class" / f"{number}.bmp")
    return folder


def configured(path: Path | None, latents: Path | None, classes: int = 1, images: int = 3) -> RunConfig:
    data = {"path": path, "latents": latents, "classes": classes, "images": images, "size": SIZE}
    settings = [f"data.{name}={'null' if value is None else value}" for name, value in data.items()]
    return load_config("imagenet256_base", [*settings, "evaluation.reference=train"])


def reference_key(config: RunConfig) -> str:
    assert config.data.name == "image_folder"
    return reference_keys(config, FolderDataset(config.data))[1]


def mean_of_reference(config: RunConfig, store: Store) -> float:
    """What the store serves, or gets now, under the key of the configured images."""
    assert config.data.name == "image_folder"
    dataset = FolderDataset(config.data)
    key = reference_keys(config, dataset)[1]
    return float(load_reference(config, key, dataset, EXTRACTOR, store).statistics.mean[0])


def test_folders_of_equal_names_and_sizes_are_two_references(tmp_path: Path) -> None:
    dark, light = grey_images(tmp_path / "dark", [10, 20, 30]), grey_images(tmp_path / "light", [200, 210, 220])
    sizes = [[file.stat().st_size for file in sorted(folder.rglob("*.bmp"))] for folder in (dark, light)]
    assert sizes[0] == sizes[1]
    store = Store(tmp_path)
    assert mean_of_reference(configured(dark, None), store) == 20
    assert mean_of_reference(configured(light, None), store) == 210


def test_with_a_cache_the_images_under_the_path_are_what_is_compared_with(tmp_path: Path) -> None:
    """Either way round, one's features are never served for the other's."""
    dark, light = grey_images(tmp_path / "dark", [10, 20, 30]), grey_images(tmp_path / "light", [200, 210, 220])
    cache = tmp_path / "cache"
    assert encode(dark, cache)
    for order in ([dark, light], [light, dark]):
        store = Store(tmp_path / f"{order[0].name} first")
        found = [mean_of_reference(configured(path, cache), store) for path in order]
        assert found == [{dark: 20, light: 210}[path] for path in order]


def test_without_a_path_the_reference_is_what_the_cache_was_made_from(tmp_path: Path) -> None:
    """So that what was compared with these images is found where the images are not."""
    source, cache = write_images(tmp_path / "images"), tmp_path / "cache"
    assert encode(source, cache)
    size = {"classes": 3, "images": 24}
    assert reference_key(configured(None, cache, **size)) == reference_key(configured(source, None, **size))
    with pytest.raises(UserError, match=r"data\.path: the image folder .*gone.*does not exist.*--set data\.path=null"):
        reference_key(configured(tmp_path / "gone", cache, **size))


def test_a_changed_image_is_noticed_though_its_size_and_time_stay(tmp_path: Path) -> None:
    folder = grey_images(tmp_path / "images", [10, 20, 30])
    before = reference_key(configured(folder, None))
    file = folder / "class" / "1.bmp"
    status = file.stat()
    file.write_bytes(file.read_bytes().replace(bytes([20]) * SIZE, bytes([21]) * SIZE))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    assert reference_key(configured(folder, None)) != before


def test_names_of_files_are_no_content(tmp_path: Path) -> None:
    folder = grey_images(tmp_path / "images", [10, 20, 30])
    before = reference_key(configured(folder, None))
    (folder / "class").rename(folder / "renamed")
    assert reference_key(configured(folder, None)) == before


@pytest.mark.parametrize("level", [200, None], ids=["another image", "no image any more"])
def test_images_that_change_before_they_are_measured_are_not_kept_under_the_old_key(
    level: int | None, tmp_path: Path
) -> None:
    folder = grey_images(tmp_path / "images", [10, 20, 30])
    config, store = configured(folder, None), Store(tmp_path / "runs")
    assert config.data.name == "image_folder"
    dataset = FolderDataset(config.data)
    key = reference_keys(config, dataset)[1]
    file = folder / "class" / "1.bmp"
    if level is None:
        file.write_bytes(b"no image")
    else:
        Image.fromarray(np.full((SIZE, SIZE, 3), level, np.uint8)).save(file)
    with pytest.raises(UserError, match=r"1\.bmp changed during the evaluation: run the same command again"):
        load_reference(config, key, dataset, EXTRACTOR, store)
    assert not store.published()
    assert reference_keys(config, dataset)[1] != key
    assert mean_of_reference(config, store) == (80 if level else 20)


def test_training_asks_for_no_image(tmp_path: Path) -> None:
    """Keys of stages rest on the cache alone, wherever the images are."""
    source, cache = grey_images(tmp_path / "images", [10, 20, 30]), tmp_path / "cache"
    assert encode(source, cache)
    config = configured(tmp_path / "gone", cache)
    assert config.data.name == "image_folder"
    keys = run_keys(config, FolderDataset(config.data))
    assert len(keys.stages) == len(config.training.stages)
    with pytest.raises(UserError, match=r"the image folder .* does not exist"):
        _ = keys.evaluation


def test_every_process_asks_for_the_key(tmp_path: Path) -> None:
    """So that those that do not read wait for the one that does outside of a collective, whose time is limited."""
    source, cache = grey_images(tmp_path / "images", [10, 20, 30]), tmp_path / "cache"
    assert encode(source, cache)
    config = configured(tmp_path / "gone", cache)
    assert config.data.name == "image_folder"
    dataset, second = FolderDataset(config.data), Processes(rank=1)
    with pytest.raises(UserError, match=r"the image folder .* does not exist"):
        evaluate(tmp_path / "x", config, run_keys(config, dataset), dataset, Store(tmp_path / "runs"), processes=second)
    (cache / "shard-00000.npy").write_bytes(bytes((cache / "shard-00000.npy").stat().st_size))
    with pytest.raises(UserError, match="shards have changed since they were written"):
        Run(config, Store(tmp_path / "runs"), processes=second).trainer()


def test_other_images_in_the_folder_of_kept_ones_are_found_before_real_ones_are_measured(
    tmp_path: Path,
) -> None:
    config = load_config("digits", ["evaluation.images=50", "evaluation.null_images=50"])
    checkpoint, kept = tmp_path / CHECKPOINT, tmp_path / "kept"
    checkpoint.write_bytes(b"not looked into")
    kept.mkdir()
    (kept / "mine.jpg").touch()
    dataset = load_dataset(config.data)
    store = Store(tmp_path / "runs")
    keys = checkpoint_keys(config, dataset, checkpoint, store)
    with pytest.raises(UserError, match="already contains other images"):
        evaluate(checkpoint, config, keys, dataset, store, keep_images=kept)
    assert not store.published()


# --- hashes are remembered ------------------------------------------------------------------------------------------


def names_in(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in sorted(folder.rglob("*.bmp"))]


def settle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of this very moment count as old ones."""
    monkeypatch.setattr(file_hashes_module, "SETTLED_NS", -1)


def test_files_are_read_once_and_again_when_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = grey_images(tmp_path / "images", [10, 20, 30])
    config = configured(folder, None)
    assert config.data.name == "image_folder"
    assert unread(folder, names_in(folder)) == 3
    with pytest.raises(UserError, match="have not been hashed on this machine"):
        require_known_reference(config, FolderDataset(config.data))
    file_hashes(folder, names_in(folder))
    assert unread(folder, names_in(folder)) == 3  # so young that another change may leave the stamp
    settle(monkeypatch)
    expected = [hashlib.sha256((folder / name).read_bytes()).digest() for name in names_in(folder)]
    assert [row.tobytes() for row in file_hashes(folder, names_in(folder))] == expected
    assert unread(folder, names_in(folder)) == 0
    require_known_reference(config, FolderDataset(config.data))
    (folder / "class" / "1.bmp").touch()
    Image.new("RGB", (SIZE, SIZE)).save(folder / "class" / "00.bmp")
    assert unread(folder, names_in(folder)) == 2
    expected = [hashlib.sha256((folder / name).read_bytes()).digest() for name in names_in(folder)]
    assert [row.tobytes() for row in file_hashes(folder, names_in(folder))] == expected


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 no archive", None])
def test_a_damaged_or_unwritable_memory_costs_only_time(
    damage: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(monkeypatch)
    folder = grey_images(tmp_path / "images", [10, 20, 30])
    expected = file_hashes(folder, names_in(folder)).tolist()
    (memory,) = (tmp_path / "home").rglob("*.npz")
    if damage is None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(memory))  # a file: no folder can be made in it
    else:
        memory.write_bytes(damage)
    assert file_hashes(folder, names_in(folder)).tolist() == expected


def test_of_many_that_want_the_same_hashes_one_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settle(monkeypatch)
    monkeypatch.setattr(file_hashes_module, "POLL_SECONDS", 0.01)
    folder = grey_images(tmp_path / "images", [10, 20, 30])
    read: list[str] = []
    hash_of = file_hashes_module._hash

    def slowly(path: Path, stamp: np.ndarray) -> np.ndarray:
        read.append(path.name)
        time.sleep(0.05)
        return hash_of(path, stamp)

    monkeypatch.setattr(file_hashes_module, "_hash", slowly)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: file_hashes(folder, names_in(folder)).tolist(), range(4)))
    assert sorted(read) == ["0.bmp", "1.bmp", "2.bmp"]
    assert found == [found[0]] * 4


def test_a_file_that_changes_while_it_is_read_has_no_hash(tmp_path: Path) -> None:
    folder = grey_images(tmp_path / "images", [10])
    with pytest.raises(UserError, match="changed while it was read"):
        file_hashes_module._hash(folder / "class" / "0.bmp", np.zeros(4, np.int64))


def test_large_files_are_shared_by_threads_and_small_ones_taken_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_hashes_module, "BLOCK", 3)
    monkeypatch.setattr(file_hashes_module, "BLOCK_BYTES", 100)
    sizes = [200, 300, 1, 1, 1, 1, 60, 60, 500]
    blocks = list(file_hashes_module._blocks(sizes))
    assert [sizes[block.start : block.stop] for block in blocks] == [[200], [300], [1, 1, 1], [1, 60], [60], [500]]


def test_a_stop_is_heard_between_files_and_keeps_what_was_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settle(monkeypatch)
    monkeypatch.setattr(file_hashes_module, "BLOCK", 1)
    folder = grey_images(tmp_path / "images", [10, 20, 30])
    asked = iter([False, True])
    with pytest.raises(StoppedError):
        file_hashes(folder, names_in(folder), lambda: next(asked))
    assert unread(folder, names_in(folder)) < 3


def test_a_training_stops_while_its_cache_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, cache = grey_images(tmp_path / "images", [10, 20, 30]), tmp_path / "cache"
    assert encode(source, cache)
    monkeypatch.delattr("ear.run.load_token_data")  # which comes next
    run = Run(configured(None, cache), Store(tmp_path / "runs"))
    assert run.train(lambda: True) is None


def test_what_is_read_is_saved_in_between(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while the first file is slow to come."""
    settle(monkeypatch)
    monkeypatch.setattr(file_hashes_module, "BLOCK", 1)
    monkeypatch.setattr(file_hashes_module, "SAVE_SECONDS", 0.0)
    folder = grey_images(tmp_path / "images", [10, 20, 30])
    saved, go = Event(), Event()
    hash_of, save = file_hashes_module._hash, file_hashes_module._save

    def hash_slowly(path: Path, stamp: np.ndarray) -> np.ndarray:
        if path.name == "0.bmp":
            go.wait(60)
        return hash_of(path, stamp)

    def save_and_tell(*arguments: Any) -> None:
        save(*arguments)
        saved.set()

    monkeypatch.setattr(file_hashes_module, "_hash", hash_slowly)
    monkeypatch.setattr(file_hashes_module, "_save", save_and_tell)
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(file_hashes, folder, names_in(folder))
        was_saved = saved.wait(20)
        left = unread(folder, names_in(folder))
        go.set()
        reading.result()
    assert was_saved
    assert left < 3


def test_a_file_dated_in_the_future_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = grey_images(tmp_path / "images", [10])
    later = time.time() + 86400
    os.utime(folder / "class" / "0.bmp", (later, later))
    monkeypatch.setattr(time, "time_ns", lambda: int((later - 86000) * 1e9))
    file_hashes(folder, names_in(folder))
    assert unread(folder, names_in(folder)) == 0


def test_folders_on_disks_of_two_machines_are_remembered_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    found = {}
    for own in (True, False):
        monkeypatch.setattr(file_hashes_module, "is_on_own_disk", lambda _, own=own: own)
        for machine in ("a", "b"):
            monkeypatch.setattr(file_hashes_module.socket, "gethostname", lambda machine=machine: machine)
            found[own, machine] = file_hashes_module._memory(tmp_path / "folder")
            assert file_hashes_module._memory(tmp_path / "link") == found[own, machine]
    assert found[True, "a"] != found[True, "b"]
    assert found[False, "a"] == found[False, "b"]


@pytest.mark.parametrize("home", ["unwritable", "none"])
def test_without_a_place_to_remember_a_warning_names_the_remedy(
    home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = grey_images(tmp_path / "images", [10, 20])
    file_hashes_module._warn_of_no_memory.cache_clear()
    if home == "unwritable":
        (tmp_path / "file").touch()
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    else:

        def no_home() -> Path:
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setattr(Path, "home", no_home)
    with pytest.warns(UserWarning, match="set XDG_CACHE_HOME to a writable folder") as warned:
        found = [file_hashes(folder, names_in(folder)).tolist() for _ in range(2)]
    assert len(warned) == 1
    assert found[0] == found[1]


@pytest.mark.parametrize("fault", ["dangling link", "folder"])
def test_a_file_that_can_not_be_read_is_left_out_and_counted(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `ear encode` does. Once it can be read, it is another reference."""
    settle(monkeypatch)
    folder = grey_images(tmp_path / "images", [10, 20, 30])
    config, store = configured(folder, None), Store(tmp_path / "runs")
    whole = reference_key(config)
    file, away = folder / "class" / "1.bmp", tmp_path / "away"
    file.rename(away)
    file.symlink_to(tmp_path / "nowhere" if fault == "dangling link" else tmp_path)
    with pytest.warns(UserWarning, match=r"1 of 3 images can't be decoded and are skipped \(the first: class/1\.bmp"):
        assert mean_of_reference(config, store) == 20
    assert reference_key(config) != whole
    file.unlink()
    away.rename(file)
    assert reference_key(config) == whole
