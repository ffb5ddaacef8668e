"""What an image file's bytes become: RGB pixels whatever the mode, cropped as ADM does, or an error with a reason."""

import io
import struct
from typing import Any

import numpy as np
import pytest
import torch
from encoding_parts import SIZE, noise_image
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from ear.data.decode import Remark, center_crop, decode

RAMP = np.arange(SIZE * SIZE, dtype=np.uint8).reshape(SIZE, SIZE)


def saved(image: Image.Image, file_format: str, **settings: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, file_format, **settings)
    return file.getvalue()


def tiff(values: bytes, bits: tuple[int, ...], *more: tuple[int, int], big_endian: bool = False) -> bytes:
    """An uncompressed image of SIZE x SIZE, of kinds that Pillow reads and does not write."""
    order = ">" if big_endian else "<"
    tags = {256: SIZE, 257: SIZE, 259: 1, 262: 1, 273: 0, 277: len(bits), 278: SIZE, 279: len(values)} | dict(more)
    begin = 8 + 2 + 12 * (len(tags) + 1) + 4
    depths = struct.pack(f"{order}2H", *(*bits, 0)[:2])  # of one or two channels
    entries = {tag: struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags.items()}
    entries[258] = struct.pack(f"{order}HHI", 258, 3, len(bits)) + depths
    entries[273] = struct.pack(f"{order}HHII", 273, 4, 1, begin)
    header = (b"MM" if big_endian else b"II") + struct.pack(f"{order}HI", 42, 8)
    return (
        header
        + struct.pack(f"{order}H", len(entries))
        + b"".join(v for _, v in sorted(entries.items()))
        + bytes(4)
        + values
    )


def grey(content: bytes) -> NDArray[np.uint8]:
    """Pixels of which every channel is the same."""
    pixels = decode(content, SIZE).pixels
    assert pixels.shape == (3, SIZE, SIZE)
    assert pixels.dtype == torch.uint8
    assert (pixels == pixels[:1]).all()
    return pixels[0].numpy()


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "PPM", "JPEG2000"])
@pytest.mark.parametrize("low", [0, 255])
def test_grey_in_16_bits_is_its_upper_eight(file_format: str, low: int) -> None:
    content = saved(Image.fromarray(RAMP.astype(np.uint16) * 256 + low), file_format)
    assert np.array_equal(grey(content), RAMP)
    assert decode(content, SIZE).remarks == (Remark.SIXTEEN_BITS,)


def test_grey_in_16_bits_of_tiff_has_either_order_any_depth_and_either_white() -> None:
    values = RAMP.astype(np.uint16) * 257
    assert np.array_equal(grey(tiff(values.astype(">u2").tobytes(), (16,), big_endian=True)), RAMP)
    assert np.array_equal(grey(tiff(values.astype("<u2").tobytes(), (16,), (262, 0))), 255 - RAMP)
    twelve = (RAMP.astype(np.uint16) * 16 + 15).reshape(-1, 2)  # two values in three bytes
    packed = np.stack([twelve[:, 0] >> 4, (twelve[:, 0] & 15) << 4 | twelve[:, 1] >> 8, twelve[:, 1] & 255], axis=1)
    assert np.array_equal(grey(tiff(packed.astype(np.uint8).tobytes(), (12,))), RAMP)


def test_grey_in_16_bits_is_as_bright_as_colours_in_16_bits() -> None:
    # Pillow writes no such PNG: a header, one row after the other behind a filter byte, an end.
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    def png(channels: int) -> bytes:
        values = np.repeat((RAMP.astype(np.uint16) * 256 + 200)[:, :, None], channels, axis=2).astype(">u2")
        rows = b"".join(b"\0" + row.tobytes() for row in values)
        header = struct.pack(">IIBBBBB", SIZE, SIZE, 16, {1: 0, 3: 2}[channels], 0, 0, 0)
        chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
        return b"\x89PNG\r\n\x1a\n" + chunks

    assert np.array_equal(grey(png(1)), grey(png(3)))


@pytest.mark.parametrize("kind", [np.float32, np.int32, np.int16])
def test_pixels_without_a_known_white_are_refused(kind: type[np.generic]) -> None:
    with pytest.raises(
        ValueError, match=r"pixels \(Pillow's mode [FI]\) do not define which value is white: save it with 8"
    ):
        decode(saved(Image.fromarray(RAMP.astype(kind)), "TIFF"), SIZE)


def plain(mode: str, colour: Any) -> Image.Image:
    return Image.new(mode, (SIZE, SIZE), colour)


@pytest.mark.parametrize(
    ("content", "colour"),
    [
        (saved(plain("1", 1), "PNG"), (255, 255, 255)),
        (saved(plain("L", 7), "PNG"), (7, 7, 7)),
        (saved(plain("LA", (7, 255)), "PNG"), (7, 7, 7)),
        (saved(plain("P", 0), "BMP"), (0, 0, 0)),
        (saved(plain("RGB", (1, 2, 3)), "PPM"), (1, 2, 3)),
        (saved(plain("RGBX", (1, 2, 3, 0)), "TIFF"), (1, 2, 3)),
        (saved(plain("CMYK", (0, 0, 0, 255)), "JPEG"), (0, 0, 0)),
        (saved(plain("CMYK", (0, 255, 255, 0)), "TIFF"), (255, 0, 0)),
        (saved(plain("YCbCr", (255, 128, 128)), "TIFF"), (255, 255, 255)),
        (saved(plain("LAB", (255, 128, 128)), "TIFF"), (254, 255, 254)),  # littleCMS rounds
        # Grey multiplied by its transparency, which Pillow converts in two steps only.
        (tiff(bytes([20, 51] * SIZE * SIZE), (8, 8), (338, 1)), (100, 100, 100)),
    ],
    ids=["1", "L", "LA", "P", "RGB", "RGBX", "CMYK", "CMYK-tiff", "YCbCr", "LAB", "La"],
)
def test_every_mode_becomes_rgb(content: bytes, colour: tuple[int, int, int]) -> None:
    assert (decode(content, SIZE).pixels == torch.tensor(colour)[:, None, None]).all()


def test_colours_beneath_transparency_are_those_stored() -> None:
    image = plain("RGBA", (1, 2, 3, 0))
    indexed = Image.fromarray(RAMP, "L").convert("P")
    for content, expected in [
        (saved(image, "PNG"), image.convert("RGB")),
        (saved(image, "WEBP", lossless=True, exact=True), image.convert("RGB")),
        (saved(indexed, "PNG", transparency=5), indexed.convert("RGB")),
        (saved(indexed, "PNG", transparency=bytes(range(256))), indexed.convert("RGB")),
    ]:
        decoded = decode(content, SIZE)
        assert torch.equal(decoded.pixels, channels_first(expected))
        assert decoded.remarks == (Remark.TRANSPARENT,)
    assert decode(saved(plain("RGBA", (1, 2, 3, 255)), "PNG"), SIZE).remarks == ()


def channels_first(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


@pytest.mark.parametrize("file_format", ["GIF", "PNG", "WEBP", "TIFF", "MPO"])
def test_the_first_of_several_frames_is_used(file_format: str) -> None:
    frames = [noise_image(SIZE, SIZE, seed) for seed in range(2)]
    exact = {"lossless": True} if file_format == "WEBP" else {}
    alone = decode(saved(frames[0], "JPEG" if file_format == "MPO" else file_format, **exact), SIZE)
    decoded = decode(saved(frames[0], file_format, save_all=True, append_images=frames[1:], **exact), SIZE)
    if file_format != "GIF":  # whose colours are chosen for both frames
        assert torch.equal(decoded.pixels, alone.pixels)
    assert (decoded.remarks, alone.remarks) == ((Remark.FRAMES,), ())


@pytest.mark.parametrize("orientation", range(1, 10))
def test_the_exif_orientation_is_ignored_unless_asked_for(orientation: int) -> None:
    image = noise_image(SIZE, 3 * SIZE, 0)
    exif = Image.Exif()
    exif[274] = orientation
    content = saved(image, "PNG", exif=exif)
    stored, turned = decode(content, SIZE), decode(content, SIZE, exif_orientation=True)
    with Image.open(io.BytesIO(content)) as opened:
        upright = ImageOps.exif_transpose(opened)
    assert torch.equal(stored.pixels, channels_first(center_crop(image, SIZE)))
    assert torch.equal(turned.pixels, channels_first(center_crop(upright, SIZE)))
    known = orientation in range(2, 9)  # 9 is none
    assert stored.remarks == ((Remark.ROTATION_IGNORED,) if known else ())
    assert turned.remarks == ((Remark.ROTATED,) if known else ())


def test_damaged_exif_data_makes_no_damaged_image() -> None:
    content = saved(noise_image(SIZE, SIZE, 0), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff")
    for exif_orientation in (False, True):
        assert decode(content, SIZE, exif_orientation).remarks == ()


def test_no_other_program_draws_an_image() -> None:
    # Pillow would hand PostScript to Ghostscript, whatever the file is called.
    with pytest.raises(ValueError, match=r"^not an image in a format that Pillow decodes$"):
        decode(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n%%EndComments\nshowpage\n", SIZE)


# --- the crop -------------------------------------------------------------------------------------------------------


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
