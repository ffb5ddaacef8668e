"""Images on disk, one folder a class as in ImageNet: listed, decoded and cropped as ADM and DiT do."""

import hashlib
import io
import os
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ear.config.hashing import digest
from ear.errors import UserError, import_extra

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}  # in any case: ImageNet's are .JPEG
LAYOUT = "one folder a class with the images directly in it, as FOLDER/n01440764/n01440764_10026.JPEG"


@dataclass(frozen=True)
class ImageList:
    """The images of a folder, class after class, and in each class by name."""

    folder: Path
    classes: tuple[str, ...]  # names of the class folders; a label is a position in it
    files: tuple[str, ...]  # relative to `folder`
    labels: tuple[int, ...]

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
    try:
        classes = sorted(entry.name for entry in os.scandir(folder) if _is_shown(entry) and entry.is_dir())
    except OSError as error:
        raise UserError(
            f"The image folder {folder} can't be read ({error.strerror}): check data.path. It should hold {LAYOUT}."
        ) from error
    if not classes:
        raise UserError(f"{folder} holds no class folders; it should hold {LAYOUT}.")
    names = [sorted(_image_names(folder / name)) for name in classes]
    if empty := [name for name, inside in zip(classes, names, strict=True) if not inside]:
        what = "no images" if len(empty) == len(classes) else f"class folders without images ({_first(empty)})"
        raise UserError(f"{folder} holds {what}; it should hold {LAYOUT}, each of {', '.join(sorted(SUFFIXES))}.")
    files = tuple(f"{name}/{file}" for name, inside in zip(classes, names, strict=True) for file in inside)
    if unnamed := [file for file in files if not file.isprintable()]:
        raise UserError(
            f"{folder}: rename the files with control or undecodable characters in their names ({_first(unnamed)})."
        )
    labels = tuple(label for label, inside in enumerate(names) for _ in inside)
    return ImageList(folder, tuple(classes), files, labels)


def _image_names(folder: Path) -> list[str]:
    return [
        entry.name for entry in os.scandir(folder) if _is_shown(entry) and Path(entry.name).suffix.lower() in SUFFIXES
    ]


def _is_shown(entry: os.DirEntry[str]) -> bool:
    # .ipynb_checkpoints is no class, and ._dog.jpg no image.
    return not entry.name.startswith(".")


def _first(names: list[str], most: int = 3) -> str:
    shown = ", ".join(map(ascii, names[:most]))
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


CROP = "adm-center-crop"  # names the rule below where caches state what they were made with


def center_crop(image: "Image", size: int) -> "Image":
    """The central square of an image whose shorter side is resized to `size` pixels.

    ADM's rule (Dhariwal & Nichol 2021), which DiT and MAR took over: halve by averaging while the result stays at
    least `size`, then resize bicubically, then cut.

    Raises:
        ValueError: the image is so long that resizing it would fill the memory.
    """
    pil = import_extra("PIL.Image", "latents")
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), resample=pil.Resampling.BOX)
    scale = size / min(image.size)
    width, height = round(image.width * scale), round(image.height * scale)
    if pil.MAX_IMAGE_PIXELS and width * height > pil.MAX_IMAGE_PIXELS:
        raise ValueError(f"{image.width}x{image.height} pixels would become {width}x{height}")
    image = image.resize((width, height), resample=pil.Resampling.BICUBIC)
    left, top = (width - size) // 2, (height - size) // 2
    return image.crop((left, top, left + size, top + size))


@dataclass(frozen=True)
class DecodedImage:
    index: int
    pixels: Tensor | None  # [3, size, size] uint8; None where the file does not decode
    source_hash: str  # SHA-256 of the file's bytes; "" where it can't be read
    error: str  # why it does not decode; "" where it does


class CroppedImages(Dataset[DecodedImage]):
    """Decodes and crops images by their number; a damaged file is an item with an error and raises nothing."""

    def __init__(self, images: ImageList, size: int) -> None:
        """
        Raises:
            UserError: Pillow is not installed.
        """
        import_extra("PIL.Image", "latents")
        self._images = images
        self._size = size

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> DecodedImage:
        source_hash = ""
        try:
            content = (self._images.folder / self._images.files[index]).read_bytes()
            source_hash = hashlib.sha256(content).hexdigest()
            return DecodedImage(index, decode(content, self._size), source_hash, "")
        except Exception as error:  # Pillow's decoders raise errors of any class on damaged files
            reason = getattr(error, "strerror", None) or f"{error}" or type(error).__name__
            return DecodedImage(index, None, source_hash, " ".join(reason.split()))


def decode(content: bytes, size: int) -> Tensor:
    """An image file's bytes -> its central crop [3, size, size] uint8, in RGB whatever the file's mode."""
    pil = import_extra("PIL.Image", "latents")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of damaged EXIF data, which pixels do not depend on
        warnings.simplefilter("error", pil.DecompressionBombWarning)
        with pil.open(io.BytesIO(content)) as image:
            cropped = center_crop(image.convert("RGB"), size)
    return torch.from_numpy(np.array(cropped)).permute(2, 0, 1).contiguous()
