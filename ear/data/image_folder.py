"""Lists and decodes image folders with one subfolder per class, as in ImageNet."""

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

LAYOUT = "one folder per class with the images directly in it, such as FOLDER/n01440764/n01440764_10026.JPEG"
FORMATS = "in a format that Pillow decodes (.jpg, .png, .webp, .tif, .gif, .bmp, ...)"
SYSTEM_FILES = {"thumbs.db", "desktop.ini", "icon\r"}  # of file managers; dot files are hidden anyway
CACHE_RECORD = "encoding.json"  # the file that marks a folder of cached latents
MOST_BYTES = 2**30  # of an image file: Pillow's limit on pixels needs less, even with 16 bits and unpacked
CONTROL_CHARACTERS = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # the last range stands for non-UTF-8 bytes


@dataclass(frozen=True)
class ImageList:
    """The images of a folder, sorted by class and name."""

    folder: Path
    classes: tuple[str, ...]  # names of the class folders; a label is an index into it
    files: tuple[str, ...]  # relative to `folder`
    labels: tuple[int, ...]
    left_out: tuple[str, ...] = ()  # a sentence for each kind of files that were left out

    def __len__(self) -> int:
        return len(self.files)

    @cached_property
    def names_hash(self) -> str:
        """Hash of the classes' and files' names; it does not depend on their content."""
        return digest([self.classes, self.files])


def list_images(folder: Path) -> ImageList:
    """List the images of a folder of class folders. The sorted names of the class folders get the labels 0, 1, ...

    Raises:
        UserError: the folder is missing or has another layout.
    """
    suffixes = image_suffixes()
    try:
        top = _scan(folder, suffixes)
        scanned = {name: _scan(folder / name, suffixes) for name in sorted(top.folders)}
    except OSError as error:
        raise UserError(
            f"The image folder {error.filename or folder} can't be read ({error.strerror}): check data.path. "
            f"It should have {LAYOUT}."
        ) from error
    caches = [name for name, inside in scanned.items() if not inside.images and CACHE_RECORD in inside.others]
    inside = {name: scan for name, scan in scanned.items() if name not in caches}
    if not inside:
        raise UserError(f"{folder} has no class folders; it should have {LAYOUT}.")
    if empty := [name for name, scan in inside.items() if not scan.images]:
        what = "no images" if len(empty) == len(inside) else f"class folders without images ({_first(empty)})"
        raise UserError(f"{folder} has {what}; it should have {LAYOUT}, {FORMATS}.")
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

    images: list[str] = field(default_factory=list)  # judged by suffix
    hidden: list[str] = field(default_factory=list)  # images whose names start with a dot
    folders: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)


def _scan(folder: Path, suffixes: frozenset[str]) -> _Scan:
    # No file is opened or stat'ed: listing ImageNet takes a thousand directory reads.
    found = _Scan()
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            is_image = _suffix(name) in suffixes
            if name.startswith("."):
                if is_image and not name.startswith("._"):  # ._dog.jpg is macOS's metadata of dog.jpg
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
        yield sentence("files in subfolders of class folders", nested)
    if hidden := [*sorted(top.hidden), *in_classes("hidden")]:
        yield sentence("hidden images", hidden)
    if others := [*sorted(top.others), *in_classes("others")]:
        kinds = Counter(_suffix(name) or "without suffix" for name in others).most_common(5)
        counts = ", ".join(f"{count:,} {kind}" for kind, count in kinds)
        yield sentence(f"files without an image suffix, {counts}", others)


def _files_below(folder: Path, place: str) -> Iterator[str]:
    for path, _, files in os.walk(folder / place):
        inside = Path(path).relative_to(folder).as_posix()
        yield from (f"{inside}/{file}" for file in sorted(files) if not file.startswith("."))


def _suffix(name: str) -> str:
    """`Path.suffix` in lower case, three times as fast."""
    stem, dot, end = name.rpartition(".")
    return dot + end.lower() if stem else ""


def _first(names: list[str], most: int = 3) -> str:
    shown = ", ".join(map(repr, names[:most]))
    return shown if len(names) <= most else f"{shown} and {len(names) - most:,} more"


@dataclass(frozen=True)
class DecodedImage:
    """A decoded and cropped image, or the reason why it can't be decoded."""

    index: int
    pixels: "Tensor | None"  # [3, size, size] uint8; None if it can't be decoded
    source_hash: str  # SHA-256 of the file's bytes; "" if it can't be read
    error: str  # why it can't be decoded; "" if it can
    remarks: tuple[Remark, ...] = ()


class CroppedImages:
    """Decodes and crops images by index. A damaged file gives an item with an error and raises nothing.

    It is a map-style dataset of torch without torch's base class, so that listing and hashing images need no torch.
    """

    def __init__(self, images: ImageList, size: int, exif_orientation: bool = False) -> None:
        """`size` is the side of the crop in pixels.

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
                raise ValueError(f"it has {length:,} bytes, more than the limit of {MOST_BYTES:,} for an image")
            content = path.read_bytes()
            source_hash = hashlib.sha256(content).hexdigest()
            decoded = decode(content, self._size, self._exif_orientation)
            return DecodedImage(index, decoded.pixels, source_hash, "", decoded.remarks)
        except Exception as error:  # Pillow's decoders raise all kinds of errors on damaged files
            reason = getattr(error, "strerror", None) or f"{error}" or type(error).__name__
            return DecodedImage(index, None, source_hash, " ".join(reason.split()))


@dataclass(frozen=True)
class DecodedBatch:
    """A batch of images, of which b could be decoded."""

    pixels: "Tensor"  # [b, 3, size, size] uint8
    decoded: list[DecodedImage]  # b entries, without their pixels, which are in the tensor
    skipped: list[DecodedImage]  # those that can't be decoded


def collate(items: list[DecodedImage]) -> DecodedBatch:
    """Combine decoded images into a batch."""
    import torch

    # One tensor per batch is passed from a worker much faster than many small ones.
    pixels = [item.pixels for item in items if item.pixels is not None]
    return DecodedBatch(
        pixels=torch.stack(pixels) if pixels else torch.empty(0, dtype=torch.uint8),
        decoded=[replace(item, pixels=None) for item in items if item.pixels is not None],
        skipped=[item for item in items if item.pixels is None],
    )
