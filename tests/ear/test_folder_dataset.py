"""A folder of images as evaluations read it, and its cache as training does."""

import json
import warnings
from pathlib import Path

import pytest
import torch
from encoding_parts import SIZE, encode, noise_image, write_images
from PIL import Image

from ear.config.schema import ImageFolderData
from ear.data.folder_dataset import FolderDataset
from ear.data.image_folder import CroppedImages, list_images
from ear.errors import UserError


def dataset(source: Path, **settings: object) -> FolderDataset:
    values = {"path": str(source), "size": SIZE, "classes": 2, "images": 8} | settings
    return FolderDataset(ImageFolderData.model_validate(values))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """8 images."""
    return write_images(tmp_path / "images", classes=2, per_class=4)


@pytest.mark.parametrize("workers", [0, 1])
def test_images_that_do_not_decode_are_left_out_with_a_word(images: Path, workers: int) -> None:
    for name in ("class-0/02.JPEG", "class-0/03.png", "class-1/00.JPEG"):  # a whole batch of two, and one more
        (images / name).write_bytes(b"")
    (images / "top.png").touch()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        batches = list(dataset(images).image_batches("train", 2, workers))
    decoded = [item.pixels for item in CroppedImages(list_images(images), SIZE) if item.pixels is not None]
    assert [len(batch) for batch in batches] == [2, 1, 2]
    assert torch.equal(torch.cat(batches), torch.stack(decoded))
    assert [str(warning.message) for warning in warned] == [
        f"{images}: left out images beside the class folders (1: 'top.png').",
        f"{images}: 3 of 8 images can't be decoded and are skipped "
        "(the first: class-0/02.JPEG: not an image in a format that Pillow decodes).",
    ]


def test_none_that_decodes_is_an_error(images: Path) -> None:
    for file in images.glob("*/*"):
        file.write_bytes(b"")
    with pytest.raises(
        UserError, match=r"None of 8 images of .* can be decoded \(class-0/00.JPEG: not an image .*check data.path"
    ):
        list(dataset(images).image_batches("train", 3, 0))


def test_the_exif_orientation_is_the_same_in_evaluations(images: Path) -> None:
    exif = Image.Exif()
    exif[274] = 3
    noise_image(SIZE, SIZE, 5).save(images / "class-1" / "01.png", exif=exif)
    stored, turned = dataset(images), dataset(images, exif_orientation=True)
    with pytest.warns(UserWarning, match=r"an EXIF orientation are used as stored, .* \(images: 1, the first 'class-1"):
        (as_stored,) = stored.image_batches("train", 8, 0)
    with pytest.warns(UserWarning, match="images were rotated"):
        (as_turned,) = turned.image_batches("train", 8, 0)
    assert torch.equal(as_turned[5], as_stored[5].rot90(2, (1, 2)))
    assert torch.equal(as_turned[:5], as_stored[:5])
    assert stored.split_hash("train") != turned.split_hash("train")


def test_a_reference_is_another_where_files_give_other_pixels(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = dataset(images).split_hash("train")
    monkeypatch.setattr("ear.data.decode.DECODING", 1)
    assert dataset(images).split_hash("train") != before


def test_a_cache_of_another_orientation_is_refused(images: Path, tmp_path: Path) -> None:
    cache = {"latents": str(tmp_path / "cache")}
    encode(images, tmp_path / "cache", exif_orientation=True)
    assert dataset(images, exif_orientation=True, **cache).cache.images == 8
    with pytest.raises(UserError, match=r"data.exif_orientation is false, but .*: --set data.exif_orientation=true if"):
        assert dataset(images, **cache).cache


def test_a_cache_without_images_of_a_class_is_warned_of(images: Path, tmp_path: Path) -> None:
    encode(images, tmp_path / "cache")
    cache = dataset(images, latents=str(tmp_path / "cache"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cache.cache
    index = json.loads((tmp_path / "cache" / "index.json").read_text())  # as earlier versions wrote it
    (tmp_path / "cache" / "index.json").write_text(json.dumps(index | {"class_images": {"class-0": 8, "class-1": 0}}))
    with pytest.warns(UserWarning, match=r"no images of 1 of its classes \(the first: 'class-1'\)"):
        assert dataset(images, latents=str(tmp_path / "cache")).cache
