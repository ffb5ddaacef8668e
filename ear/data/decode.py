"""An image file's bytes -> RGB pixels, cropped as ADM and DiT do.

What a file holds beside 8-bit colours is dealt with in one of two ways, and never in silence: the image is used and
marked with a remark, or it is refused with a reason.
"""

import io
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ear.errors import import_extra

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

DECODING: Final = 2
"""Raised whenever a file's bytes start to give other pixels; 2 scales 16-bit grey, which 1 clipped to white."""

NOT_DECODED = {"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG", "FITS"}
"""Formats that Pillow opens and that are no pictures of known brightness, or are drawn by other programs."""
EIGHT_BIT_MODES = {"1", "L", "P", "RGB", "LA", "PA", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"}


class Remark(StrEnum):
    """What a user may want to know of an image that was used."""

    ROTATION_IGNORED = "rotation_ignored"
    ROTATED = "rotated"
    TRANSPARENT = "transparent"
    FRAMES = "frames"
    SIXTEEN_BITS = "sixteen_bits"


SENTENCES = {
    Remark.ROTATION_IGNORED: "images with an EXIF orientation stay as stored, as ADM has them; "
    "--set data.exif_orientation=true turns them",
    Remark.ROTATED: "images were turned as their EXIF orientation says",
    Remark.TRANSPARENT: "of transparent images the colours stored beneath are used, as ADM does",
    Remark.FRAMES: "of files with several frames, pages or layers the first is used",
    Remark.SIXTEEN_BITS: "of grey in 16 bits the upper eight are used",
}


class RemarkCounter:
    """How many images each remark was made of, and the first of them."""

    def __init__(self) -> None:
        self.counts: Counter[Remark] = Counter()
        self.first: dict[Remark, str] = {}

    def add(self, remark: Remark, file: str, images: int = 1) -> None:
        self.counts[remark] += images
        self.first.setdefault(remark, file)

    def sentences(self) -> list[str]:
        return [
            f"{SENTENCES[remark]} (images: {count:,}, the first {self.first[remark]!r})."
            for remark, count in self.counts.items()
        ]


@cache
def openable_formats() -> tuple[str, ...]:
    """Pillow's names of the formats that are decoded. Which file has which is told by its content.

    Those that are known by how a file begins come before those that can only be tried.
    """
    pil = import_extra("PIL.Image", "latents")
    pil.init()

    def begins_with_nothing_special(name: str) -> bool:
        _, accept = pil.OPEN[name]
        return accept is None

    return tuple(sorted(set(pil.OPEN) - NOT_DECODED, key=lambda name: (begins_with_nothing_special(name), name)))


@cache
def image_suffixes() -> frozenset[str]:
    """Of the files that count as images: `.jpg`, `.png`, `.tif`, ... in lower case.

    Raises:
        UserError: Pillow is not installed.
    """
    formats = {*openable_formats(), "MPO"}  # a JPEG with more behind it, which Pillow's JPEG reader opens
    pil = import_extra("PIL.Image", "latents")
    return frozenset(suffix for suffix, name in pil.registered_extensions().items() if name in formats)


@dataclass(frozen=True)
class Decoded:
    pixels: "Tensor"  # [3, size, size] uint8, RGB
    remarks: tuple[Remark, ...]


def decode(content: bytes, size: int, exif_orientation: bool = False) -> Decoded:
    """The central crop of the image (the first one) in these bytes.

    Args:
        exif_orientation: turn the image as its EXIF data says, before it is cropped.

    Raises:
        ValueError, OSError, ...: it does not decode (decoders raise errors of any class on damaged files), would fill
            the memory, or its pixels are of a kind with no known brightness.
    """
    import numpy as np
    import torch

    pil = import_extra("PIL.Image", "latents")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of damaged EXIF data, which pixels do not depend on
        warnings.simplefilter("error", pil.DecompressionBombWarning)
        with _opened(content) as image:
            image.load()
            colours = to_rgb(image)
            if exif_orientation and (turn := TURNS.get(_orientation(image))):
                colours = colours.transpose(pil.Transpose[turn])
            cropped = center_crop(colours, size)
            remarks = tuple(_remarks(image, exif_orientation))
    return Decoded(torch.from_numpy(np.array(cropped)).permute(2, 0, 1).contiguous(), remarks)


def _opened(content: bytes) -> "Image":
    pil = import_extra("PIL.Image", "latents")
    try:
        return pil.open(io.BytesIO(content), formats=openable_formats())  # type: ignore[no-any-return]
    except pil.UnidentifiedImageError as error:  # its message has an address in memory, another one each time
        raise ValueError("no image in a format that Pillow decodes") from error


def to_rgb(image: "Image") -> "Image":
    """A loaded image in RGB: colours beneath transparency as they are stored, colour profiles ignored, as ADM does.

    Of 16-bit grey values the upper eight bits are taken, as Pillow itself does of 16-bit colours.

    Raises:
        ValueError: its pixels are of a kind with no known brightness.
    """
    if image.mode == "La":  # grey multiplied by its transparency, of TIFF files
        image = image.convert("LA")
    if image.mode in EIGHT_BIT_MODES:
        return image.convert("RGB")
    if not _is_sixteen_bit(image):
        kind = {"F": "floating-point", "I": "32-bit integer"}.get(image.mode, "unknown")
        raise ValueError(
            f"{kind} pixels (Pillow's mode {image.mode}), and nothing says what is white: save it with 8 or 16 bits"
        )
    import numpy as np

    pil = import_extra("PIL.Image", "latents")
    bits, white_is_zero = _tiff_bits(image)
    upper = (np.asarray(image).astype(np.int32) >> (bits - 8)).clip(0, 255).astype(np.uint8)
    return pil.fromarray(255 - upper if white_is_zero else upper).convert("RGB")  # type: ignore[no-any-return]


def _is_sixteen_bit(image: "Image") -> bool:
    # PPM's reader scales every depth beyond 8 to 16 bits, in mode I.
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))


# EXIF's orientations but for 1, which is upright -> Pillow's name of what makes them so. ImageOps.exif_transpose has
# this table too; but it writes the EXIF data anew, which fails where that is damaged, and would lose the image.
TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
BITS_PER_SAMPLE, PHOTOMETRIC_INTERPRETATION, ORIENTATION = 258, 262, 274  # tags of TIFF


def _tiff_bits(image: "Image") -> tuple[int, bool]:
    """Bits that grey values have, and whether 0 is white, which Pillow does not turn round in 16 bits."""
    tags = getattr(image, "tag_v2", None)
    if tags is None:
        return 16, False
    return tags.get(BITS_PER_SAMPLE, (16,))[0], tags.get(PHOTOMETRIC_INTERPRETATION) == 0


def _orientation(image: "Image") -> int:
    """1 is upright. TIFF files are, since Pillow turns them when it loads them."""
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # damaged EXIF data makes no damaged image
        return 1


def _remarks(image: "Image", exif_orientation: bool) -> Iterator[Remark]:
    if _orientation(image) in TURNS:
        yield Remark.ROTATED if exif_orientation else Remark.ROTATION_IGNORED
    if _is_sixteen_bit(image):
        yield Remark.SIXTEEN_BITS
    elif _is_transparent(image):
        yield Remark.TRANSPARENT
    if _has_frames(image):
        yield Remark.FRAMES


def _is_transparent(image: "Image") -> bool:
    """Whether any pixel is; a channel of transparency that is opaque throughout makes none."""
    if not image.has_transparency_data:
        return False
    lowest, _ = image.convert("LA" if image.mode == "La" else "RGBA").getchannel("A").getextrema()
    return lowest < 255  # type: ignore[operator]  # one channel, hence numbers


def _has_frames(image: "Image") -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # GIF looks for a second frame, which may be damaged
        return True


def is_sixteen_bit_png(path: Path) -> bool:
    """Whether a file is a grey PNG of 16 bits, by its header: earlier versions made it white."""
    try:
        with path.open("rb") as file:
            header = file.read(26)
    except OSError:
        return False
    return header.startswith(b"\x89PNG\r\n\x1a\n") and header[24:26] == bytes([16, 0])  # bit depth, colour type


CROP = "adm-center-crop"  # names the rule below where caches state what they were made with


def crop_name(exif_orientation: bool) -> str:
    """What is done to images, as caches state it."""
    return f"{CROP}+exif-orientation" if exif_orientation else CROP


def pixel_rule_name(exif_orientation: bool) -> str:
    """What makes pixels out of a file's bytes: with these and the size, it is what an image's pixels are known by."""
    return f"{crop_name(exif_orientation)}, decoding {DECODING}"


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
