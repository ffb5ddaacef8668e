"""Images of a folder: listed, decoded, cropped; damaged ones are items with an error."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from encoding_parts import SIZE, cut, noise_image
from PIL import Image
from torch.nn.functional import avg_pool2d, interpolate

from ear.data.image_folder import CroppedImages, center_crop, list_images
from ear.errors import UserError


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
