"""Decodes image files to RGB pixels, cropped as in ADM and DiT.

An image with anything other than plain 8-bit colours is never converted silently: it is either used and marked with a
remark, or refused with a reason.
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
"""Version of the decoding, incremented whenever a file gives other pixels. Version 2 scales 16-bit grayscale values,
which version 1 clipped to white."""

NOT_DECODED = {"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG", "FITS"}
"""Formats that Pillow opens but that have no defined brightness, or that other programs render."""
EIGHT_BIT_MODES = {"1", "L", "P", "RGB", "LA", "PA", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"}


class Remark(StrEnum):
    """A property of a used image that the user may want to know."""

    ROTATION_IGNORED = "rotation_ignored"
    ROTATED = "rotated"
    TRANSPARENT = "transparent"
    FRAMES = "frames"
    SIXTEEN_BITS = "sixteen_bits"


SENTENCES = {
    Remark.ROTATION_IGNORED: "images with an EXIF orientation are used as stored, as in ADM; "
    "--set data.exif_orientation=true rotates them",
    Remark.ROTATED: "images were rotated by their EXIF orientation",
    Remark.TRANSPARENT: "transparency is ignored and the stored colours are used, as in ADM",
    Remark.FRAMES: "only the first frame, page or layer of a file is used",
    Remark.SIXTEEN_BITS: "only the upper 8 bits of 16-bit grayscale values are used",
}


class RemarkCounter:
    """Counts the images with each remark and remembers the first one."""

    def __init__(self) -> None:
        self.counts: Counter[Remark] = Counter()
        self.first: dict[Remark, str] = {}

    def add(self, remark: Remark, file: str, images: int = 1) -> None:
        """Count `images` images with a remark, of which `file` is the first."""
        self.counts[remark] += images
        self.first.setdefault(remark, file)

    def sentences(self) -> list[str]:
        """A sentence for each remark."""
        return [
            f"{SENTENCES[remark]} (images: {count:,}, the first {self.first[remark]!r})."
            for remark, count in self.counts.items()
        ]


@cache
def openable_formats() -> tuple[str, ...]:
    """Pillow's names of the formats that are decoded. A file's format is detected from its content.

    Formats with a known file signature come before those that Pillow can only try to decode.
    """
    pil = import_extra("PIL.Image", "latents")
    pil.init()

    def begins_with_nothing_special(name: str) -> bool:
        _, accept = pil.OPEN[name]
        return accept is None

    return tuple(sorted(set(pil.OPEN) - NOT_DECODED, key=lambda name: (begins_with_nothing_special(name), name)))


@cache
def image_suffixes() -> frozenset[str]:
    """The suffixes of files that count as images, in lower case: `.jpg`, `.png`, `.tif`, ...

    Raises:
        UserError: Pillow is not installed.
    """
    formats = {*openable_formats(), "MPO"}  # a JPEG with more images appended, which Pillow's JPEG reader opens
    pil = import_extra("PIL.Image", "latents")
    return frozenset(suffix for suffix, name in pil.registered_extensions().items() if name in formats)


@dataclass(frozen=True)
class Decoded:
    """A decoded and cropped image."""

    pixels: "Tensor"  # [3, size, size] uint8, RGB
    remarks: tuple[Remark, ...]


def decode(content: bytes, size: int, exif_orientation: bool = False) -> Decoded:
    """Decode the (first) image of a file and take its central crop.

    Args:
        content: the bytes of the file.
        size: side of the crop in pixels.
        exif_orientation: rotate the image by its EXIF orientation before cropping.

    Raises:
        ValueError, OSError, ...: it can't be decoded (decoders raise all kinds of errors on damaged files), it would
            need too much memory, or its pixels have no defined brightness.
    """
    import numpy as np
    import torch

    pil = import_extra("PIL.Image", "latents")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about damaged EXIF data, which does not affect the pixels
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
    except pil.UnidentifiedImageError as error:  # its message contains a memory address, which differs every time
        raise ValueError("not an image in a format that Pillow decodes") from error


def to_rgb(image: "Image") -> "Image":
    """Convert a loaded image to RGB. Transparency and colour profiles are ignored, as in ADM.

    16-bit grayscale values are reduced to their upper 8 bits, as Pillow itself does for 16-bit colours.

    Raises:
        ValueError: its pixels have no defined brightness.
    """
    if image.mode == "La":  # grayscale with premultiplied alpha, in TIFF files
        image = image.convert("LA")
    if image.mode in EIGHT_BIT_MODES:
        return image.convert("RGB")
    if not _is_sixteen_bit(image):
        kind = {"F": "floating-point", "I": "32-bit integer"}.get(image.mode, "unknown")
        raise ValueError(
            f"{kind} pixels (Pillow's mode {image.mode}) do not define which value is white: save it with 8 or 16 bits"
        )
    import numpy as np

    pil = import_extra("PIL.Image", "latents")
    bits, white_is_zero = _tiff_bits(image)
    upper = (np.asarray(image).astype(np.int32) >> (bits - 8)).clip(0, 255).astype(np.uint8)
    return pil.fromarray(255 - upper if white_is_zero else upper).convert("RGB")  # type: ignore[no-any-return]


def _is_sixteen_bit(image: "Image") -> bool:
    # Pillow's PPM reader scales all depths above 8 bits to 16 bits, in mode I.
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))


# EXIF orientations, except 1, which is upright -> Pillow's name of the operation that makes the image upright.
# ImageOps.exif_transpose has this table too, but it also rewrites the EXIF data, which fails if they are damaged.
TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
BITS_PER_SAMPLE, PHOTOMETRIC_INTERPRETATION, ORIENTATION = 258, 262, 274  # TIFF tags


def _tiff_bits(image: "Image") -> tuple[int, bool]:
    """The number of bits of grayscale values, and whether 0 is white, which Pillow does not invert at 16 bits."""
    tags = getattr(image, "tag_v2", None)
    if tags is None:
        return 16, False
    return tags.get(BITS_PER_SAMPLE, (16,))[0], tags.get(PHOTOMETRIC_INTERPRETATION) == 0


def _orientation(image: "Image") -> int:
    """The EXIF orientation; 1 is upright. TIFF files always are, since Pillow rotates them while loading."""
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # with damaged EXIF data the image may still be fine
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
    """Whether any pixel is transparent; an alpha channel alone does not count."""
    if not image.has_transparency_data:
        return False
    lowest, _ = image.convert("LA" if image.mode == "La" else "RGBA").getchannel("A").getextrema()
    return lowest < 255  # type: ignore[operator]  # one channel, hence numbers


def _has_frames(image: "Image") -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # Pillow looks for the second frame of a GIF, which may be damaged
        return True


def is_sixteen_bit_png(path: Path) -> bool:
    """Whether a file is a 16-bit grayscale PNG, by its header. Earlier versions clipped these to white."""
    try:
        with path.open("rb") as file:
            header = file.read(26)
    except OSError:
        return False
    return header.startswith(b"\x89PNG\r\n\x1a\n") and header[24:26] == bytes([16, 0])  # bit depth, colour type


CROP = "adm-center-crop"  # name of the rule below in the records of caches


def crop_name(exif_orientation: bool) -> str:
    """The name of the rotation and cropping of images in the records of caches."""
    return f"{CROP}+exif-orientation" if exif_orientation else CROP


def pixel_rule_name(exif_orientation: bool) -> str:
    """The name of the rule that turns a file's bytes into pixels. With bytes and size it identifies the pixels."""
    return f"{crop_name(exif_orientation)}, decoding {DECODING}"


def center_crop(image: "Image", size: int) -> "Image":
    """Resize the shorter side of an image to `size` pixels and take the central square.

    This is the rule of ADM (Dhariwal & Nichol 2021), which DiT and MAR use too: halve by averaging while the result is
    at least `size`, then resize bicubically, then crop.

    Raises:
        ValueError: the image is so elongated that resizing it would need too much memory.
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
