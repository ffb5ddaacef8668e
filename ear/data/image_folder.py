"""Images on disk, one folder a class as in ImageNet: what of a folder is an image, and what is left out."""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ear.config.hashing import digest
from ear.data.decode import Remark, decode, image_suffixes
from ear.errors import UserError, import_extra
from ear.files.writing import require_regular

if TYPE_CHECKING:
    from torch import Tensor

LAYOUT = "one folder a class with the images directly in it, as FOLDER/n01440764/n01440764_10026.JPEG"
FORMATS = "in a format that Pillow decodes (.jpg, .png, .webp, .tif, .gif, .bmp, ...)"
SYSTEM_FILES = {"thumbs.db", "desktop.ini", "icon\r"}  # of file managers; those that begin with a dot are hidden anyway
CACHE_RECORD = "encoding.json"  # the file that makes a folder one of cached latents
MOST_BYTES = 2**30  # of an image file; as many pixels as Pillow decodes fill less, in 16 bits and unpacked
CONTROL_CHARACTERS = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # the last are bytes that are no UTF-8


@dataclass(frozen=True)
class ImageList:
    """The images of a folder, class after class, and in each class by name."""

    folder: Path
    classes: tuple[str, ...]  # names of the class folders; a label is a position in it
    files: tuple[str, ...]  # relative to `folder`
    labels: tuple[int, ...]
    left_out: tuple[str, ...] = ()  # a sentence on each kind of things that lie there and are not taken

    def __len__(self) -> int:
        return len(self.files)

    @cached_property
    def names_hash(self) -> str:
        """Changes with files added, removed or renamed; knows nothing of their content."""
        return digest([self.classes, self.files])


def list_images(folder: Path) -> ImageList:
    """The images of a folder of class folders, whose sorted names get the labels 0, 1, ...

    Raises:
        UserError: the folder is missing or laid out otherwise.
    """
    suffixes = image_suffixes()
    try:
        top = _scan(folder, suffixes)
        scanned = {name: _scan(folder / name, suffixes) for name in sorted(top.folders)}
    except OSError as error:
        raise UserError(
            f"The image folder {error.filename or folder} can't be read ({error.strerror}): check data.path. "
            f"It should hold {LAYOUT}."
        ) from error
    caches = [name for name, inside in scanned.items() if not inside.images and CACHE_RECORD in inside.others]
    inside = {name: scan for name, scan in scanned.items() if name not in caches}
    if not inside:
        raise UserError(f"{folder} holds no class folders; it should hold {LAYOUT}.")
    if empty := [name for name, scan in inside.items() if not scan.images]:
        what = "no images" if len(empty) == len(inside) else f"class folders without images ({_first(empty)})"
        raise UserError(f"{folder} holds {what}; it should hold {LAYOUT}, {FORMATS}.")
    files = tuple(f"{name}/{file}" for name, scan in inside.items() for file in sorted(scan.images))
    if unnamed := [file for file in files if not file.isprintable() and CONTROL_CHARACTERS.search(file)]:
        raise UserError(
            f"{folder}: rename the files with control or undecodable characters in their names ({_first(unnamed)})."
        )
    labels = tuple(label for label, scan in enumerate(inside.values()) for _ in scan.images)
    return ImageList(folder, tuple(inside), files, labels, tuple(_left_out(folder, top, inside, caches)))


@dataclass
class _Scan:
    """The names in a folder."""

    images: list[str] = field(default_factory=list)  # by their suffixes
    hidden: list[str] = field(default_factory=list)  # the same, behind a dot
    folders: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)


def _scan(folder: Path, suffixes: frozenset[str]) -> _Scan:
    # No file is opened or looked up: a listing of ImageNet is a thousand reads of a folder.
    found = _Scan()
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            is_image = _suffix(name) in suffixes
            if name.startswith("."):
                if is_image and not name.startswith("._"):  # ._dog.jpg is what macOS knows of dog.jpg
                    found.hidden.append(name)
            elif is_image and not entry.is_dir(follow_symlinks=False):
                found.images.append(name)
            elif entry.is_dir():
                found.folders.append(name)
            elif name.lower() not in SYSTEM_FILES:
                found.others.append(name)
    return found


def _left_out(folder: Path, top: _Scan, classes: dict[str, _Scan], caches: list[str]) -> Iterator[str]:
    def in_classes(kind: str) -> Iterator[str]:
        return (f"{label}/{name}" for label, scan in classes.items() for name in sorted(getattr(scan, kind)))

    def sentence(what: str, names: list[str]) -> str:
        return f"{folder}: left out {what} ({len(names):,}: {_first(names)})."

    if caches:
        yield sentence("folders of cached latents", caches)
    if top.images:
        yield sentence("images beside the class folders", sorted(top.images))
    if nested := [file for place in in_classes("folders") for file in _files_below(folder, place)]:
        yield sentence("files in sub-folders of class folders", nested)
    if hidden := [*sorted(top.hidden), *in_classes("hidden")]:
        yield sentence("hidden images", hidden)
    if others := [*sorted(top.others), *in_classes("others")]:
        kinds = Counter(_suffix(name) or "without suffix" for name in others).most_common(5)
        counts = ", ".join(f"{count:,} {kind}" for kind, count in kinds)
        yield sentence(f"files that are no images by their names, {counts}", others)


def _files_below(folder: Path, place: str) -> Iterator[str]:
    for path, _, files in os.walk(folder / place):
        inside = Path(path).relative_to(folder).as_posix()
        yield from (f"{inside}/{file}" for file in sorted(files) if not file.startswith("."))


def _suffix(name: str) -> str:
    """As `Path.suffix` in lower case, in a third of the time."""
    stem, dot, end = name.rpartition(".")
    return dot + end.lower() if stem else ""


def _first(names: list[str], most: int = 3) -> str:
    shown = ", ".join(map(repr, names[:most]))
    return shown if len(names) <= most else f"{shown} and {len(names) - most:,} more"


@dataclass(frozen=True)
class DecodedImage:
    index: int
    pixels: "Tensor | None"  # [3, size, size] uint8; None where the file does not decode
    source_hash: str  # SHA-256 of the file's bytes; "" where it can't be read
    error: str  # why it does not decode; "" where it does
    remarks: tuple[Remark, ...] = ()


class CroppedImages:
    """Decodes and crops images by their number; a damaged file is an item with an error and raises nothing.

    One of torch's map-style datasets, without their base class: listing and hashing images needs no torch.
    """

    def __init__(self, images: ImageList, size: int, exif_orientation: bool = False) -> None:
        """
        Raises:
            UserError: Pillow is not installed.
        """
        import_extra("PIL.Image", "latents")
        self._images = images
        self._size = size
        self._exif_orientation = exif_orientation

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> DecodedImage:
        path, source_hash = self._images.folder / self._images.files[index], ""
        try:
            if (length := require_regular(path).st_size) > MOST_BYTES:
                raise ValueError(f"it has {length:,} bytes, more than the {MOST_BYTES:,} that are read of an image")
            content = path.read_bytes()
            source_hash = hashlib.sha256(content).hexdigest()
            decoded = decode(content, self._size, self._exif_orientation)
            return DecodedImage(index, decoded.pixels, source_hash, "", decoded.remarks)
        except Exception as error:  # Pillow's decoders raise errors of any class on damaged files
            reason = getattr(error, "strerror", None) or f"{error}" or type(error).__name__
            return DecodedImage(index, None, source_hash, " ".join(reason.split()))


@dataclass(frozen=True)
class DecodedBatch:
    pixels: "Tensor"  # [b, 3, size, size] uint8, of those that decode
    decoded: list[DecodedImage]  # b of them; their pixels are in the tensor
    skipped: list[DecodedImage]


def collate(items: list[DecodedImage]) -> DecodedBatch:
    import torch

    # One tensor a batch passes from a worker quickly, many small ones don't.
    pixels = [item.pixels for item in items if item.pixels is not None]
    return DecodedBatch(
        pixels=torch.stack(pixels) if pixels else torch.empty(0, dtype=torch.uint8),
        decoded=[replace(item, pixels=None) for item in items if item.pixels is not None],
        skipped=[item for item in items if item.pixels is None],
    )
