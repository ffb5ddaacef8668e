"""Images of a folder: which of its files are, and damaged ones are items with an error."""

from collections.abc import Callable
from pathlib import Path

import pytest
from encoding_parts import SIZE, cut, noise_image
from PIL import Image

from ear.data.image_folder import CroppedImages, list_images
from ear.errors import UserError


def test_images_are_listed_by_class_and_name(tmp_path: Path) -> None:
    touch(
        tmp_path, ["b/2.JPEG", "b/10.png", "a/x.WebP", "a/._x.jpg", ".checkpoints/y.png", "a/.DS_Store", "b/Thumbs.db"]
    )
    images = list_images(tmp_path)
    assert images.classes == ("a", "b")
    assert images.files == ("a/x.WebP", "b/10.png", "b/2.JPEG")
    assert images.labels == (0, 1, 1)
    assert images.left_out == ()


def test_what_pillow_decodes_is_an_image(tmp_path: Path) -> None:
    names = ["0.tif", "1.GIF", "2.ppm", "3.jfif", "4.tiff", "5.jp2", "6.pgm", "7.avif", "8.mpo", "9.tga"]
    touch(tmp_path, [f"a/{name}" for name in names])
    assert list_images(tmp_path).files == tuple(f"a/{name}" for name in names)


def test_what_is_left_out_is_counted_and_named(tmp_path: Path) -> None:
    touch(tmp_path, ["a/0.png", "a/more/1.png", "a/more/yet/2.png", "a/more/.DS_Store", "b/0.png", "b/.hidden.png"])
    touch(tmp_path, ["top.png", "README", "a/0.txt", "b/0.txt", "b/1.txt", "b/0.svg", "b/0.eps", "cache/encoding.json"])
    images = list_images(tmp_path)
    assert (images.classes, images.files) == (("a", "b"), ("a/0.png", "b/0.png"))
    assert [sentence.removeprefix(f"{tmp_path}: left out ") for sentence in images.left_out] == [
        "folders of cached latents (1: 'cache').",
        "images beside the class folders (1: 'top.png').",
        "files in subfolders of class folders (2: 'a/more/1.png', 'a/more/yet/2.png').",
        "hidden images (1: 'b/.hidden.png').",
        "files without an image suffix, 3 .txt, 1 without suffix, 1 .eps, 1 .svg "
        "(6: 'README', 'a/0.txt', 'b/0.eps' and 3 more).",
    ]


@pytest.mark.parametrize("name", ["Screenshot 9.41.00\u202fAM.png", "\u3000.png", "\xa0.png", "\u200b.png", "🐈.png"])
def test_unusual_characters_are_no_fault(name: str, tmp_path: Path) -> None:
    touch(tmp_path, [f"a/{name}"])
    assert list_images(tmp_path).files == (f"a/{name}",)


def touch(folder: Path, files: list[str]) -> None:
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (None, "can't be read (No such file or directory): check data.path. It should have one folder per class"),
        (["x.png"], "has no class folders; it should have one folder per class"),
        (["a/x.txt"], "has no images; it should have one folder per class"),
        (["train/a/x.png", "val/a/x.png"], "has no images"),
        (["a/x.png", "b/x.txt"], "has class folders without images ('b')"),
        (["a/x\x85.png"], r"rename the files with control or undecodable characters in their names ('a/x\x85.png')"),
        (["a/x\udcff.png"], r"characters in their names ('a/x\udcff.png')"),
        (["a/x\n.png"], r"rename the files with control or undecodable characters in their names ('a/x\n.png')"),
    ],
)
def test_other_layouts_are_refused(files: list[str] | None, message: str, tmp_path: Path) -> None:
    touch(tmp_path / "images", files or [])
    with pytest.raises(UserError) as refused:
        list_images(tmp_path / "images")
    assert message in str(refused.value)


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
    images = CroppedImages(list_images(tmp_path), SIZE)
    damage(tmp_path / "a" / "1.png")
    good, bad = images[0], images[1]
    assert good.pixels is not None
    assert good.error == ""
    assert bad.pixels is None
    assert bad.error
    assert "\n" not in bad.error
