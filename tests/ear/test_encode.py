"""Encoding an image folder: in order, resumed, shared out, with files that don't decode."""

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from encoding_parts import SIZE, contents, cut, encode, encode_elsewhere, noise_image, pooled, write_images
from PIL import Image
from torch import Tensor

from ear.cli.encode import announce, check_folders, inspect_cache, label_line
from ear.config.schema import ImageFolderData
from ear.data.decode import center_crop
from ear.data.image_folder import list_images
from ear.data.latent_writing import to_half, write_shard
from ear.data.latents import LatentCache
from ear.errors import UserError


def test_moments_are_those_of_image_and_mirror_in_order(source: Path, whole: Path) -> None:
    cache = LatentCache.open(whole)
    files = sorted(source.glob("*/*"))
    assert cache.images == len(files) == 24
    assert (cache.class_names, cache.moments_shape) == (("class-0", "class-1", "class-2"), (6, 4, 4))
    assert cache.labels.tolist() == [0] * 8 + [1] * 8 + [2] * 8
    assert list(cache.file_names()) == [file.relative_to(source).as_posix() for file in files]
    assert list(cache.source_hashes()) == [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]

    crops = np.stack([np.array(center_crop(Image.open(file), SIZE)) for file in files])
    images = torch.from_numpy(crops).permute(0, 3, 1, 2) / 127.5 - 1
    order = torch.randperm(24, generator=torch.Generator().manual_seed(0))
    upright, mirrored = torch.zeros(24, dtype=torch.bool), torch.ones(24, dtype=torch.bool)
    # Float16 has 11 bits and the moments are below 4; the batches of the two computations differ.
    torch.testing.assert_close(cache.moments(order, upright).float(), pooled(images)[order], atol=2e-3, rtol=0)
    torch.testing.assert_close(cache.moments(order, mirrored).float(), pooled(images.flip(3))[order], atol=2e-3, rtol=0)
    assert not torch.equal(cache.moments(order, upright), cache.moments(order, mirrored))


def test_the_shard_size_moves_no_row(source: Path, whole: Path, tmp_path: Path) -> None:
    assert encode(source, tmp_path, shard_size=100, batch_size=24)
    everything = torch.arange(24)
    mirrored = everything % 2 == 1
    torch.testing.assert_close(
        LatentCache.open(tmp_path).moments(everything, mirrored),
        LatentCache.open(whole).moments(everything, mirrored),
        atol=2e-3,
        rtol=0,
    )


def test_half_precision_clamps_log_variances_and_refuses_what_it_cannot_hold() -> None:
    moments = torch.tensor([1.5, -70000.0])[None, :, None, None]
    assert to_half(moments).flatten().tolist() == [1.5, -30]
    assert to_half(-moments).flatten().tolist() == [-1.5, 20]
    for wrong in ([70000.0, 0.0], [0.0, torch.inf], [0.0, torch.nan], [torch.nan, 0.0]):
        with pytest.raises(ValueError, match="not finite or exceed float16"):
            to_half(torch.tensor(wrong)[None, :, None, None])


def test_moments_that_are_not_finite_name_the_images(source: Path, tmp_path: Path) -> None:
    def failing(images: Tensor) -> Tensor:
        return pooled(images) * torch.nan

    with pytest.raises(UserError, match=r"fails between class-0/00.JPEG and class-0/01.png: .* tokenizer.checkpoint"):
        encode(source, tmp_path, moments=failing)


def test_workers_change_nothing(source: Path, whole: Path, tmp_path: Path) -> None:
    assert encode(source, tmp_path, workers=2)
    assert contents(tmp_path) == contents(whole)


def test_an_encoding_stops_between_batches_and_goes_on(source: Path, whole: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    asked = iter([False] * 5 + [True])  # 3 batches of the first shard, 2 of the second
    assert not encode(source, tmp_path, stop=lambda: next(asked), on_images=lambda *counts: calls.append(counts))
    assert calls == [(0, 24), (2, 24), (4, 24), (5, 24), (7, 24), (9, 24)]
    assert set(contents(tmp_path)) == {"encoding.json", "shard-00000.npy", "shard-00000.json"}
    with pytest.raises(UserError, match="is unfinished: 1 of 5 shards are done; run the same `ear encode` again"):
        LatentCache.open(tmp_path)
    calls.clear()
    assert encode(source, tmp_path, on_images=lambda *counts: calls.append(counts))
    assert (calls[0], calls[-1]) == ((5, 24), (24, 24))
    assert contents(tmp_path) == contents(whole)


def test_a_killed_encoding_goes_on_to_the_same_bytes(source: Path, whole: Path, tmp_path: Path) -> None:
    killed = encode_elsewhere(source, tmp_path, seconds=0.1)
    while not (tmp_path / "shard-00001.json").exists():
        assert killed.is_alive()
        time.sleep(0.01)
    killed.kill()
    killed.join()
    assert "index.json" not in contents(tmp_path)
    # What kills at worse moments leave.
    (tmp_path / ".shard-00003.npy.k1ll3d").write_bytes(b"half")
    (tmp_path / ".index.json.k1ll3d").write_bytes(b"half")
    (tmp_path / "shard-00004.npy").write_bytes((whole / "shard-00004.npy").read_bytes())
    kept = (tmp_path / "shard-00000.npy").stat().st_mtime_ns
    assert encode(source, tmp_path)
    assert contents(tmp_path) == contents(whole)
    assert (tmp_path / "shard-00000.npy").stat().st_mtime_ns == kept


def test_two_processes_share_the_shards(source: Path, whole: Path, tmp_path: Path) -> None:
    # The main one is done first and has to wait.
    processes = [encode_elsewhere(source, tmp_path, rank=rank, world=2, seconds=0.2 * rank) for rank in (0, 1)]
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert contents(tmp_path) == contents(whole)


def test_waiting_for_other_processes_can_be_stopped(source: Path, tmp_path: Path) -> None:
    waits: list[None] = []
    assert not encode(source, tmp_path, world=2, wait=lambda: waits.append(None), stop=lambda: len(waits) == 3)
    assert "index.json" not in contents(tmp_path)
    assert encode(source, tmp_path, rank=1, world=2)
    assert encode(source, tmp_path, rank=0, world=2)
    assert LatentCache.open(tmp_path).images == 24


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tokenizer_hash": "b" * 64}, "another autoencoder: aaaaaaaaaaaa then, bbbbbbbbbbbb now"),
        ({"size": 20}, "another crop size: data.size=16 then, 20 now"),
        ({"exif_orientation": True}, "another crop: adm-center-crop then, adm-center-crop+exif-orientation now"),
        ({"shard_size": 6}, "another shard size: 5 images then, 6 now"),
    ],
)
def test_a_cache_of_other_settings_is_not_gone_on_with(
    settings: dict[str, Any], message: str, source: Path, whole: Path
) -> None:
    with pytest.raises(UserError) as refused:
        encode(source, whole, **settings)
    assert message in str(refused.value)
    assert "encode into another folder with --set data.latents=FOLDER" in str(refused.value)


def test_a_cache_of_other_images_is_not_gone_on_with(tmp_path: Path) -> None:
    source = write_images(tmp_path / "images", classes=2, per_class=2)
    encode(source, tmp_path / "cache")
    noise_image(16, 16, 0).save(source / "class-1" / "new.png")
    with pytest.raises(UserError, match=r"files were added, removed or renamed: 4 files then, 5 now"):
        encode(source, tmp_path / "cache")


# --- images that don't decode ---------------------------------------------------------------------------------------


@pytest.fixture
def damaged_source(tmp_path: Path) -> Path:
    """12 images, of which 2 do not decode; both are in the second shard."""
    source = write_images(tmp_path / "images", classes=2, per_class=6)
    (source / "class-0" / "05.png").write_bytes(b"")
    cut(source / "class-1" / "01.png")
    return source


def test_few_are_skipped_and_listed(damaged_source: Path, tmp_path: Path) -> None:
    assert encode(damaged_source, tmp_path / "cache", max_skipped=0.2)
    cache = LatentCache.open(tmp_path / "cache")
    assert (cache.images, cache.index.skipped) == (10, 2)
    assert cache.labels.tolist() == [0] * 5 + [1] * 5
    assert cache.index.shards[1].rows == 3
    listed = (tmp_path / "cache" / "skipped.txt").read_text().splitlines()
    assert [line.split("\t")[0] for line in listed] == ["class-0/05.png", "class-1/01.png"]
    assert all(line.split("\t")[1] for line in listed)
    assert cache.verify() == []
    # Rows after the skipped ones are still their images'.
    files = [damaged_source / name for name in cache.file_names()]
    crops = np.stack([np.array(center_crop(Image.open(file), SIZE)) for file in files])
    expected = pooled(torch.from_numpy(crops).permute(0, 3, 1, 2) / 127.5 - 1)
    found = cache.moments(torch.arange(10), torch.zeros(10, dtype=torch.bool)).float()
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=0)


def test_many_are_an_error_until_they_are_mended(damaged_source: Path, tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(UserError) as refused:
            encode(damaged_source, tmp_path / "cache", max_skipped=0.1)
        message = str(refused.value)
        assert "2 of the 12 images can't be decoded, more than the allowed fraction of 0.1" in message
        assert f"{tmp_path / 'cache' / 'skipped.txt'} lists all of them so far" in message
        assert "\n  class-0/05.png: " in message
    assert "class-1/01.png" in (tmp_path / "cache" / "skipped.txt").read_text()
    noise_image(16, 16, 0).save(damaged_source / "class-0" / "05.png")
    noise_image(16, 16, 1).save(damaged_source / "class-1" / "01.png")
    assert encode(damaged_source, tmp_path / "cache", max_skipped=0.1)
    assert LatentCache.open(tmp_path / "cache").images == 12
    assert encode(damaged_source, tmp_path / "undisturbed")
    assert contents(tmp_path / "cache") == contents(tmp_path / "undisturbed")


def test_a_shard_of_which_nothing_decodes_has_no_rows(tmp_path: Path) -> None:
    source = write_images(tmp_path / "images", classes=2, per_class=6)
    for file in sorted(source.glob("class-0/*"))[:5]:
        file.write_bytes(b"")
    assert encode(source, tmp_path / "cache", max_skipped=0.5)
    cache = LatentCache.open(tmp_path / "cache")
    assert [shard.rows for shard in cache.index.shards] == [0, 5, 2]
    assert cache.labels.tolist() == [0] + [1] * 6
    assert cache.moments(torch.arange(7), torch.ones(7, dtype=torch.bool)).abs().sum() > 0
    assert cache.verify() == []


def test_a_class_of_which_nothing_decodes_is_an_error_until_it_is_mended(tmp_path: Path) -> None:
    source = write_images(tmp_path / "images", classes=3, per_class=8)
    images = sorted(source.glob("class-1/*"))
    good = [file.read_bytes() for file in images]
    for file in images:
        file.write_bytes(b"")
    # Neither of two processes sees all of its shards.
    assert encode(source, tmp_path / "cache", max_skipped=0.5, rank=1, world=2)
    with pytest.raises(
        UserError, match=r"No image of the class 'class-1' can be decoded \(class-1/00.JPEG: not an image in a form"
    ):
        encode(source, tmp_path / "cache", max_skipped=0.5, world=2)
    assert "class-1/07.png" in (tmp_path / "cache" / "skipped.txt").read_text()
    for file, content in zip(images, good, strict=True):
        file.write_bytes(content)
    assert encode(source, tmp_path / "cache", max_skipped=0.5)
    assert LatentCache.open(tmp_path / "cache").images == 24


# --- what is worth knowing of images that decode --------------------------------------------------------------------


@pytest.fixture
def odd_source(tmp_path: Path) -> Path:
    """4 images, of which the first has an EXIF orientation and the last two are grey in 16 bits."""
    source = write_images(tmp_path / "images", classes=2, per_class=2)
    exif = Image.Exif()
    exif[274] = 6
    noise_image(16, 32, 0).save(source / "class-0" / "00.JPEG", exif=exif)
    for name in ("00.JPEG", "01.png"):
        (source / "class-1" / name).unlink()
        Image.fromarray(np.full((16, 16), 32768, np.uint16)).save((source / "class-1" / name).with_suffix(".png"))
    return source


def test_remarks_are_counted_and_kept(odd_source: Path, tmp_path: Path) -> None:
    for _ in range(2):  # the second time, nothing is encoded
        assert encode(odd_source, tmp_path / "cache", shard_size=3)
        assert LatentCache.open(tmp_path / "cache").remarks().sentences() == [
            "images with an EXIF orientation are used as stored, as in ADM; "
            "--set data.exif_orientation=true rotates them (images: 1, the first 'class-0/00.JPEG').",
            "only the upper 8 bits of 16-bit grayscale values are used (images: 2, the first 'class-1/00.png').",
        ]
    assert encode(odd_source, tmp_path / "turned", exif_orientation=True)
    ignored, turned = LatentCache.open(tmp_path / "cache"), LatentCache.open(tmp_path / "turned")
    assert turned.content_hash != ignored.content_hash
    everything = torch.arange(4), torch.zeros(4, dtype=torch.bool)
    differing = (turned.moments(*everything) != ignored.moments(*everything)).flatten(1).any(dim=1)
    assert differing.tolist() == [True, False, False, False]


def test_shards_of_an_earlier_version_are_made_again_where_it_made_images_white(
    odd_source: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    assert encode(odd_source, cache, shard_size=2)
    right = contents(cache)
    for record in cache.glob("shard-*.json"):
        values = json.loads(record.read_text())
        white = np.ones_like(np.load(record.with_suffix(".npy")))
        del values["remarks"]
        write_shard(record.with_suffix(".npy"), white, values["labels"], values["files"], values["source_hashes"], {})
        written = json.loads(record.read_text())
        record.write_text(json.dumps(values | {"sha256": written["sha256"]}))
    earlier = contents(cache)
    assert not encode(odd_source, cache, shard_size=2, stop=lambda: True)
    assert not (cache / "index.json").exists()  # it is of other shards than there will be
    assert encode(odd_source, cache, shard_size=2)
    assert contents(cache)["shard-00000.npy"] == earlier["shard-00000.npy"]  # no grey in it
    assert contents(cache)["shard-00001.npy"] == right["shard-00001.npy"]
    assert LatentCache.open(cache).verify() == []


# --- the command ----------------------------------------------------------------------------------------------------


def test_the_command_says_which_label_is_which_class_and_what_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_images(tmp_path / "images", classes=1, per_class=1)
    for name in ("1", "10", "11", "2"):
        (source / "class-0").rename(source / name)
        write_images(source, classes=1, per_class=1)
    noise_image(16, 16, 0).save(source / "top.png")
    with pytest.warns(UserWarning, match=r"left out images beside the class folders \(1: 'top.png'\)"):
        announce(list_images(source))
    labels = "0 is '1', 1 is '10', 2 is '11', 3 is '2', 4 is 'class-0'"
    said = capsys.readouterr().out
    assert f"5 images under {source}. Labels, in alphabetical order of the class names: {labels}." in said
    assert label_line([f"{number:03d}" for number in range(100)]).endswith(" 10 is '010', ..., 99 is '099'.")


@pytest.mark.parametrize("place", ["images", "images/cache", "images/class-0/cache"])
def test_a_cache_is_no_class_of_its_images(place: str, tmp_path: Path) -> None:
    (tmp_path / "images" / "class-0").mkdir(parents=True)
    data = ImageFolderData(path=str(tmp_path / "images"), classes=1, images=1)
    with pytest.raises(UserError, match=r"data\.latents .* is inside the image folder .*: choose another folder"):
        check_folders(data, tmp_path / place)
    check_folders(data, tmp_path / "images-cache")


def test_no_scale_is_measured_of_no_images(tmp_path: Path) -> None:
    source = write_images(tmp_path / "images", classes=1, per_class=1)
    encode(source, tmp_path / "cache")
    index = json.loads((tmp_path / "cache" / "index.json").read_text())  # as earlier versions ended where none decodes
    index |= {"images": 0, "class_images": {"class-0": 0}}
    (tmp_path / "cache" / "index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="has no images to measure the scale of"):
        inspect_cache(tmp_path / "cache", verify=False, measure_scale=True)
