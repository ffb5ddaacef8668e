"""Image folders and the cache of their latents: encoded, resumed, shared out, damaged, read."""

import hashlib
import json
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate
from torch.utils.data import DataLoader

from ear.data.encode import encode_folder
from ear.data.image_folder import CroppedImages, center_crop, list_images
from ear.data.latents import LatentCache, to_half
from ear.errors import UserError

SIZE = 16
SHAPES = [(16, 16), (40, 24), (23, 31), (70, 90), (12, 20)]  # (width, height)


def noise_image(width: int, height: int, seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(256, size=(height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def write_images(folder: Path, classes: int = 3, per_class: int = 8) -> Path:
    """Images of several shapes, PNG and JPEG in turn."""
    for label in range(classes):
        (folder / f"class-{label}").mkdir(parents=True)
        for number in range(per_class):
            seed = label * per_class + number
            image = noise_image(*SHAPES[seed % len(SHAPES)], seed)
            image.save(folder / f"class-{label}" / f"{number:02d}.{'png' if number % 2 else 'JPEG'}")
    return folder


def pooled(images: Tensor) -> Tensor:
    """An autoencoder in closed form: means are averages of 4x4 pixels, log-variances their doubles less 1."""
    mean = avg_pool2d(images, 4)
    return torch.cat([mean, 2 * mean - 1], dim=1)


def encode(source: Path, folder: Path, seconds: float = 0.0, **settings: Any) -> bool:
    def slowly(images: Tensor) -> Tensor:
        time.sleep(seconds)
        return pooled(images)

    settings = {
        "tokenizer_hash": "a" * 64,
        "size": SIZE,
        "shard_size": 5,
        "batch_size": 2,
        "moments": slowly,
    } | settings
    return encode_folder(list_images(source), folder, **settings)


def encode_elsewhere(source: Path, folder: Path, **settings: Any) -> subprocess.Popen[bytes]:
    """The same in a process of its own."""
    arguments = f"Path({str(source)!r}), Path({str(folder)!r}), **{settings!r}"
    code = f"from pathlib import Path\nfrom test_latents import encode\nencode({arguments})"
    return subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parent)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 images: 5 shards, the last of 4."""
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def whole(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache of an undisturbed encoding. Not to be changed."""
    folder = tmp_path_factory.mktemp("cache")
    assert encode(source, folder)
    return folder


@pytest.fixture
def cache_folder(source: Path, tmp_path: Path) -> Path:
    """One to be damaged."""
    assert encode(source, tmp_path / "cache")
    return tmp_path / "cache"


# --- images ---------------------------------------------------------------------------------------------------------


# The last column is the position of the crop, worked out by hand. Sides are even wherever they are halved.
@pytest.mark.parametrize(
    ("width", "height", "halvings", "resized", "corner"),
    [
        (16, 16, 0, (16, 16), (0, 0)),
        (31, 20, 0, (25, 16), (4, 0)),  # 31 * 16 / 20 = 24.8
        (12, 20, 0, (16, 27), (0, 5)),  # enlarged; 26.67 rounds up, 11 / 2 rounds down
        (32, 64, 1, (16, 32), (0, 8)),
        (100, 76, 2, (21, 16), (2, 0)),  # 50x38, 25x19; 25 * 16 / 19 = 21.05
        (40, 120, 1, (16, 48), (0, 16)),
    ],
)
def test_center_crop_is_adms(
    width: int, height: int, halvings: int, resized: tuple[int, int], corner: tuple[int, int]
) -> None:
    # Away from 0 and 255, where Pillow also clips what one direction overshoots before it goes on with the other.
    image = noise_image(width, height, 0).point(lambda value: 64 + value // 2)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float()
    for _ in range(halvings):
        pixels = (avg_pool2d(pixels, 2) + 0.5).floor()
    pixels = interpolate(pixels, (resized[1], resized[0]), mode="bicubic", antialias=True).round().clamp(0, 255)
    left, top = corner
    expected = pixels[0, :, top : top + SIZE, left : left + SIZE].permute(1, 2, 0)
    cropped = center_crop(image, SIZE)
    assert cropped.size == (SIZE, SIZE)
    # Pillow rounds weights to 8 bits and rounds after each direction.
    assert np.abs(np.array(cropped) - expected.numpy()).max() <= 2


@pytest.mark.parametrize(("width", "height"), [(20, 30), (30, 20), (16, 24), (8, 12)])
def test_center_crop_is_torchvisions_where_nothing_is_halved_or_rounded(width: int, height: int) -> None:
    # Imported here since the processes that encode import this file, and torchvision takes seconds.
    from torchvision.transforms import functional as torchvision

    image = noise_image(width, height, 1)
    resized = torchvision.resize(image, SIZE, torchvision.InterpolationMode.BICUBIC)
    assert np.array_equal(np.array(center_crop(image, SIZE)), np.array(torchvision.center_crop(resized, [SIZE, SIZE])))


def test_center_crop_refuses_what_would_fill_the_memory() -> None:
    with pytest.raises(ValueError, match="1x60000 pixels would become 64x3840000"):
        center_crop(Image.new("RGB", (1, 60_000)), 64)


def test_images_are_listed_by_class_and_name(tmp_path: Path) -> None:
    for file in ["b/2.JPEG", "b/10.png", "a/x.WebP", "a/notes.txt", "a/._x.jpg", ".checkpoints/y.png", "top.png"]:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    images = list_images(tmp_path)
    assert images.classes == ("a", "b")
    assert images.files == ("a/x.WebP", "b/10.png", "b/2.JPEG")
    assert images.labels == (0, 1, 1)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (None, "can't be read (No such file or directory): check data.path. It should hold one folder a class"),
        (["x.png"], "holds no class folders; it should hold one folder a class"),
        (["a/x.txt"], "holds no images; it should hold one folder a class"),
        (["train/a/x.png", "val/a/x.png"], "holds no images"),
        (["a/x.png", "b/x.txt"], "holds class folders without images ('b')"),
        (["a/x\n.png"], r"rename the files with control or undecodable characters in their names ('a/x\n.png')"),
    ],
)
def test_other_layouts_are_refused(files: list[str] | None, message: str, tmp_path: Path) -> None:
    for file in files or []:
        (tmp_path / "images" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / file).touch()
    with pytest.raises(UserError) as refused:
        list_images(tmp_path / "images")
    assert message in str(refused.value)


def test_every_mode_becomes_rgb(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    Image.new("L", (SIZE, SIZE), 7).save(tmp_path / "a" / "0.png")
    Image.new("RGBA", (SIZE, SIZE), (1, 2, 3, 0)).save(tmp_path / "a" / "1.png")
    Image.new("CMYK", (SIZE, SIZE), (0, 0, 0, 255)).save(tmp_path / "a" / "2.jpg")
    Image.new("P", (SIZE, SIZE), 0).save(tmp_path / "a" / "3.bmp")
    images = CroppedImages(list_images(tmp_path), SIZE)
    colours = [[7, 7, 7], [1, 2, 3], [0, 0, 0], [0, 0, 0]]
    for item, colour in zip((images[index] for index in range(4)), colours, strict=True):
        assert item.pixels is not None
        assert item.pixels.shape == (3, SIZE, SIZE)
        assert item.pixels.dtype == torch.uint8
        assert (item.pixels == torch.tensor(colour)[:, None, None]).all()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def replace_by_text(path: Path) -> None:
    path.write_text("not found")


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def enlarge(path: Path) -> None:
    Image.new("RGB", (40, 40)).save(path)  # a bomb at the limit of 1,000 pixels that the test sets: Pillow only warns


def enlarge_more(path: Path) -> None:
    Image.new("RGB", (60, 60)).save(path)  # Pillow raises


@pytest.mark.parametrize("damage", [cut, replace_by_text, replace_by_folder, enlarge, enlarge_more])
def test_damaged_files_are_items_with_an_error(
    damage: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 1000)
    (tmp_path / "a").mkdir()
    for name in ("0.png", "1.png"):
        noise_image(20, 20, 0).save(tmp_path / "a" / name)
    damage(tmp_path / "a" / "1.png")
    images = CroppedImages(list_images(tmp_path), SIZE)
    good, bad = images[0], images[1]
    assert good.pixels is not None
    assert good.error == ""
    assert bad.pixels is None
    assert bad.error
    assert "\n" not in bad.error


# --- encoding -------------------------------------------------------------------------------------------------------


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


def test_rows_are_read_one_by_one_as_in_any_batch(whole: Path) -> None:
    cache = LatentCache.open(whole)
    indices = torch.tensor([23, 0, 4, 5, 0, 19, 20])  # ends of shards, one twice
    mirrored = torch.tensor([True, False, True, False, True, False, True])
    shards = [np.load(whole / f"shard-{number:05d}.npy") for number in range(5)]
    expected = np.concatenate(shards)[indices.numpy(), mirrored.int().numpy()]
    assert np.array_equal(cache.moments(indices, mirrored).numpy(), expected)
    assert cache.moments(indices[:0], mirrored[:0]).shape == (0, 6, 4, 4)


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
        with pytest.raises(ValueError, match="not finite or beyond float16"):
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
    with pytest.raises(UserError, match="is unfinished: 1 of 5 shards are there; the same `ear encode` goes on"):
        LatentCache.open(tmp_path)
    calls.clear()
    assert encode(source, tmp_path, on_images=lambda *counts: calls.append(counts))
    assert (calls[0], calls[-1]) == ((5, 24), (24, 24))
    assert contents(tmp_path) == contents(whole)


def test_a_killed_encoding_goes_on_to_the_same_bytes(source: Path, whole: Path, tmp_path: Path) -> None:
    killed = encode_elsewhere(source, tmp_path, seconds=0.1)
    while not (tmp_path / "shard-00001.json").exists():
        assert killed.poll() is None
        time.sleep(0.01)
    killed.kill()
    killed.wait()
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
    assert [process.wait(60) for process in processes] == [0, 0]
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
        ({"shard_size": 6}, "another shard size: 5 images then, 6 now"),
    ],
)
def test_a_cache_of_other_settings_is_not_gone_on_with(
    settings: dict[str, Any], message: str, source: Path, whole: Path
) -> None:
    with pytest.raises(UserError) as refused:
        encode(source, whole, **settings)
    assert message in str(refused.value)
    assert "encode into another folder by --set data.latents=FOLDER" in str(refused.value)


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
        assert "2 of the 12 images do not decode, more than the share of 0.1" in message
        assert f"All of them so far: {tmp_path / 'cache' / 'skipped.txt'}" in message
        assert "\n  class-0/05.png: " in message
    assert "class-1/01.png" in (tmp_path / "cache" / "skipped.txt").read_text()
    noise_image(16, 16, 0).save(damaged_source / "class-0" / "05.png")
    noise_image(16, 16, 1).save(damaged_source / "class-1" / "01.png")
    assert encode(damaged_source, tmp_path / "cache", max_skipped=0.1)
    assert LatentCache.open(tmp_path / "cache").images == 12
    assert encode(damaged_source, tmp_path / "undisturbed")
    assert contents(tmp_path / "cache") == contents(tmp_path / "undisturbed")


def test_a_shard_of_which_nothing_decodes_has_no_rows(tmp_path: Path) -> None:
    source = write_images(tmp_path / "images", classes=2, per_class=5)
    for file in (source / "class-0").iterdir():
        file.write_bytes(b"")
    assert encode(source, tmp_path / "cache", max_skipped=0.5)
    cache = LatentCache.open(tmp_path / "cache")
    assert [shard.rows for shard in cache.index.shards] == [0, 5]
    assert cache.labels.tolist() == [1] * 5
    assert cache.moments(torch.arange(5), torch.ones(5, dtype=torch.bool)).abs().sum() > 0
    assert cache.verify() == []


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
        (flip_a_byte, ["shard-00002.npy: its content is not what was written"]),
        (lambda folder: (folder / "shard-00001.json").unlink(), ["shard-00001.json can't be read"]),
        (lambda folder: (folder / "shard-00001.json").write_text("{"), ["shard-00001.json is damaged"]),
        (
            lambda folder: edit(folder, "shard-00001.json", lambda shard: shard["labels"].__setitem__(0, 7)),
            ["shard-00001.npy: its labels are not those of the index"],
        ),
        (
            lambda folder: edit(folder, "shard-00001.json", lambda shard: shard["files"].pop()),
            ["shard-00001.npy: its record does not have a label, a file and a hash for each row"],
        ),
        (
            lambda folder: edit(folder, "shard-00001.json", lambda shard: shard.update(sha256="0")),
            ["shard-00001.npy: its record is of another encoding than the index"],
        ),
        (
            lambda folder: edit(folder, "index.json", lambda index: index.update(images=25)),
            ["index.json: its counts of images differ"],
        ),
        (
            lambda folder: edit(folder, "index.json", lambda index: index.update(tokenizer_hash="c")),
            ["index.json: its content hash is not that of its content"],
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
        (lambda folder: (folder / "index.json").unlink(), "is unfinished: 5 of 5 shards are there"),
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
        with pytest.raises(UserError, match=r"holds no cached latents: check data.latents, .* `ear encode CONFIG"):
            LatentCache.open(folder)


def test_another_format_is_refused(cache_folder: Path, source: Path) -> None:
    for name in ("index.json", "encoding.json"):
        edit(cache_folder, name, lambda value: value.update(format="ear-latents-9", new_field=1))
    with pytest.raises(
        UserError, match="has the format 'ear-latents-9', and this version of ear reads 'ear-latents-1'"
    ):
        LatentCache.open(cache_folder)
    with pytest.raises(UserError, match="has the format 'ear-latents-9'"):
        encode(source, cache_folder)


@pytest.mark.parametrize(
    ("different", "message"),
    [
        ({"classes": 1000}, "data.classes is 1000, but .* holds 3 classes: --set data.classes=3 if the cache is right"),
        ({"size": 256}, "data.size is 256, but .* cropped to 16 pixels: --set data.size=16 if the cache is right"),
        ({"tokenizer_hash": "b" * 64}, r"another autoencoder \(aaaaaaaaaaaa\) than the configured \(bbbbbbbbbbbb\)"),
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
