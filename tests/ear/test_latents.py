"""The cache of latents: read in any order, its hash, damage found and mended."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from encoding_parts import SIZE, contents, cut, encode, write_images
from torch import Tensor
from torch.utils.data import DataLoader

from ear.data.latents import LatentCache
from ear.errors import UserError


def test_rows_are_read_one_by_one_as_in_any_batch(whole: Path) -> None:
    cache = LatentCache.open(whole)
    indices = torch.tensor([23, 0, 4, 5, 0, 19, 20])  # ends of shards, one twice
    mirrored = torch.tensor([True, False, True, False, True, False, True])
    shards = [np.load(whole / f"shard-{number:05d}.npy") for number in range(5)]
    expected = np.concatenate(shards)[indices.numpy(), mirrored.int().numpy()]
    assert np.array_equal(cache.moments(indices, mirrored).numpy(), expected)
    assert cache.moments(indices[:0], mirrored[:0]).shape == (0, 6, 4, 4)


# --- the content hash -----------------------------------------------------------------------------------------------


def test_the_content_hash_knows_content_and_not_names(tmp_path: Path) -> None:
    source = write_images(tmp_path / "images", classes=2, per_class=2)

    def content_hash(cache: str, **settings: Any) -> str:
        encode(source, tmp_path / cache, **settings)
        return LatentCache.open(tmp_path / cache).content_hash

    first = content_hash("first")
    assert content_hash("other tokenizer", tokenizer_hash="b" * 64) != first
    (source / "class-1").rename(source / "renamed")
    assert content_hash("renamed") == first
    (source / "renamed" / "00.JPEG").rename(source / "class-0" / "02.JPEG")
    assert content_hash("other label") != first
    (source / "class-0" / "02.JPEG").write_bytes((source / "class-0" / "00.JPEG").read_bytes())
    assert content_hash("other image") != first


# --- damaged and unfitting caches -----------------------------------------------------------------------------------


def test_a_whole_cache_has_no_faults(whole: Path) -> None:
    shards: list[None] = []
    assert LatentCache.open(whole).verify(lambda: shards.append(None)) == []
    assert len(shards) == 5


def flip_a_byte(folder: Path) -> None:
    content = bytearray((folder / "shard-00002.npy").read_bytes())
    content[-1] ^= 1
    (folder / "shard-00002.npy").write_bytes(content)


def edit(folder: Path, name: str, change: Callable[[dict[str, Any]], object]) -> None:
    value = json.loads((folder / name).read_text())
    change(value)
    (folder / name).write_text(json.dumps(value))


@pytest.mark.parametrize(
    ("damage", "faults"),
    [
        (flip_a_byte, ["shard-00002.npy: its content has changed since it was written"]),
        (lambda folder: (folder / "shard-00001.json").unlink(), ["shard-00001.json can't be read"]),
        (lambda folder: (folder / "shard-00001.json").write_text("{"), ["shard-00001.json is damaged"]),
        (
            lambda folder: edit(folder, "shard-00001.json", lambda shard: shard["labels"].__setitem__(0, 7)),
            ["shard-00001.npy: its labels do not match the index"],
        ),
        (
            lambda folder: edit(folder, "shard-00001.json", lambda shard: shard["files"].pop()),
            ["shard-00001.npy: its record does not have a label, a file and a hash for each row"],
        ),
        (
            lambda folder: edit(folder, "shard-00001.json", lambda shard: shard.update(sha256="0")),
            ["shard-00001.npy: its record does not match the index"],
        ),
        (
            lambda folder: edit(folder, "index.json", lambda index: index.update(images=25)),
            ["index.json: its image counts differ"],
        ),
        (
            lambda folder: edit(folder, "index.json", lambda index: index.update(tokenizer_hash="c")),
            ["index.json: its content does not match its content hash"],
        ),
    ],
)
def test_verify_finds_what_opening_does_not(
    damage: Callable[[Path], object], faults: list[str], cache_folder: Path, whole: Path, source: Path
) -> None:
    damage(cache_folder)
    found = LatentCache.open(cache_folder).verify()
    assert len(found) == len(faults)
    for fault, expected in zip(found, faults, strict=True):
        assert expected in fault
    # The remedy that it names:
    broken = cache_folder / next(
        name for name in ("shard-00001.npy", "shard-00002.npy", "index.json") if name[:11] in found[0]
    )
    broken.unlink()
    assert encode(source, cache_folder)
    assert contents(cache_folder) == contents(whole)


def cut_shard(folder: Path) -> None:
    cut(folder / "shard-00003.npy")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut_shard, "1 of 5 shards are missing or truncated (shard-00003.npy is truncated). Run the same `ear encode`"),
        (lambda folder: (folder / "shard-00000.npy").unlink(), "(shard-00000.npy is missing)"),
        (lambda folder: cut(folder / "index.json"), "index.json is damaged"),
        (lambda folder: (folder / "index.json").unlink(), "is unfinished: 5 of 5 shards are done"),
    ],
)
def test_what_opening_finds_is_mended_by_the_same_command(
    damage: Callable[[Path], object], message: str, cache_folder: Path, whole: Path, source: Path
) -> None:
    damage(cache_folder)
    with pytest.raises(UserError) as refused:
        LatentCache.open(cache_folder)
    assert message in str(refused.value)
    assert encode(source, cache_folder)
    assert contents(cache_folder) == contents(whole)


def test_there_is_no_cache(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(UserError, match=r"has no cached latents: check data.latents, .* `ear encode CONFIG"):
            LatentCache.open(folder)


def test_another_format_is_refused(cache_folder: Path, source: Path) -> None:
    for name in ("index.json", "encoding.json"):
        edit(cache_folder, name, lambda value: value.update(format="ear-latents-9", new_field=1))
    with pytest.raises(
        UserError, match="has the format 'ear-latents-9', but this version of ear reads 'ear-latents-1'"
    ):
        LatentCache.open(cache_folder)
    with pytest.raises(UserError, match="has the format 'ear-latents-9'"):
        encode(source, cache_folder)


@pytest.mark.parametrize(
    ("different", "message"),
    [
        ({"classes": 1000}, "data.classes is 1000, but .* has 3 classes: --set data.classes=3 if the cache is right"),
        ({"size": 256}, "data.size is 256, but .* cropped to 16 pixels: --set data.size=16 if the cache is right"),
        (
            {"tokenizer_hash": "b" * 64},
            r"another autoencoder \(aaaaaaaaaaaa\) than the configured "
            r"one \(bbbbbbbbbbbb\)",
        ),
    ],
)
def test_a_cache_that_does_not_fit_says_how_to_mend_it(different: dict[str, Any], message: str, whole: Path) -> None:
    cache = LatentCache.open(whole)
    fitting = {"classes": 3, "size": SIZE, "tokenizer_hash": "a" * 64}
    cache.check(**fitting)
    cache.check(**fitting | {"tokenizer_hash": None})
    with pytest.raises(UserError, match=message):
        cache.check(**fitting | different)


# --- other processes ------------------------------------------------------------------------------------------------


class Rows(torch.utils.data.Dataset[Tensor]):
    def __init__(self, cache: LatentCache) -> None:
        self.cache = cache

    def __len__(self) -> int:
        return self.cache.images

    def __getitem__(self, index: int) -> Tensor:
        return self.cache.moments(torch.tensor([index]), torch.tensor([index % 2 == 1]))[0]


def test_workers_and_copies_read_what_the_main_process_reads(whole: Path) -> None:
    cache = LatentCache.open(whole)
    everything = torch.arange(24)
    expected = cache.moments(everything, everything % 2 == 1)  # the maps are open when the workers fork
    loader = DataLoader(Rows(cache), batch_size=6, num_workers=2, multiprocessing_context="fork")
    assert torch.equal(torch.cat(list(loader)), expected)
    copied = pickle.loads(pickle.dumps(cache))
    assert torch.equal(copied.moments(everything, everything % 2 == 1), expected)
    assert torch.equal(copied.labels, cache.labels)
