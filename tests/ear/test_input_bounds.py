"""Files that would cost time or memory without bound are refused before they are read."""

import gzip
import os
import struct
import sys
import tracemalloc
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from ear.cli.checkpoint import override
from ear.config import RunConfig, load_config
from ear.config.hashing import file_digest
from ear.config.loading import validate
from ear.data import idx
from ear.data.decode import decode, openable_formats
from ear.data.file_hashes import file_hashes
from ear.data.idx import read_idx
from ear.data.image_folder import CroppedImages, ImageList
from ear.errors import UserError
from ear.training.checkpoint import CheckpointHeader, load_header, save_checkpoint
from ear.weights.torch_files import read_torch_file

NO_FILE = "it is a pipe, a socket or a device, not a file"


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


def test_a_checkpoint_of_before_there_was_a_bound_is_read_whatever_its_seed(tmp_path: Path) -> None:
    digits, path = load_config("digits"), tmp_path / "checkpoint.safetensors"
    config = digits.model_copy(update={"seed": 2**70})
    save_checkpoint(path, CheckpointHeader(config, 1, "data"), {"model": {}})
    found = load_header(path).config
    assert found.seed == 2**70
    assert override(found, ["sampling.cfg=1.5"], path).seed == 2**70
    with pytest.raises(UserError, match="is too large: integers have 64 bits"):
        override(found, [f"evaluation.seed={2**70}"], path)
    with pytest.raises(UserError, match="integers have 64 bits"):
        validate(RunConfig, config.model_dump(mode="json"), source="a new one")


def test_weights_are_not_waited_for(pipe: Path) -> None:
    doors: list[Callable[[Path], object]] = [read_torch_file, load_header, file_digest]
    for door in doors:
        for path in (pipe, Path("/dev/zero")):
            with pytest.raises(UserError, match=f"{path} can't be read .{NO_FILE}"):
                door(path)


def test_a_pipe_in_an_image_folder_is_an_image_that_does_not_decode(pipe: Path, tmp_path: Path) -> None:
    images = ImageList(tmp_path, ("a",), (pipe.name, "huge"), (0, 0))
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(2**40)  # a hole, which no memory holds
    cropped = CroppedImages(images, 8)
    assert cropped[0].error == NO_FILE
    assert cropped[1].error == "it has 1,099,511,627,776 bytes, more than the limit of 1,073,741,824 for an image"
    assert not file_hashes(tmp_path, ["pipe"]).any()


def test_an_image_of_too_many_pixels_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)  # 1.2 GB of pixels
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(2**20)))
    openable_formats()  # Pillow's plugins make an image of their own when they are found

    def load(_: Image.Image) -> None:
        raise AssertionError("its pixels were decoded")

    monkeypatch.setattr(Image.Image, "load", load)
    with warnings.catch_warnings(), pytest.raises((Image.DecompressionBombError, Image.DecompressionBombWarning)):
        decode(content, 8)


def test_a_megabyte_of_gzip_is_not_unpacked_into_a_gigabyte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block = gzip.compress(bytes(2**20), 9)  # members of a gzip file follow one another
    (tmp_path / "x.gz").write_bytes(block * 64)
    monkeypatch.setattr(idx, "MOST_BYTES", 2**22)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="it has more than 4,194,304 bytes"):
            read_idx(tmp_path / "x.gz", 3)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**24


def test_a_packed_torch_file_is_refused(tmp_path: Path) -> None:
    torch.save({"model": torch.zeros(1_000_000)}, tmp_path / "plain.pth")
    plain = zipfile.ZipFile(tmp_path / "plain.pth")
    with plain, zipfile.ZipFile(tmp_path / "packed.pth", "w", zipfile.ZIP_DEFLATED) as packed:
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    assert read_torch_file(tmp_path / "plain.pth")["model"].shape == (1_000_000,)
    with pytest.raises(UserError, match=r"packed\.pth is a packed archive, which torch.save does not write"):
        read_torch_file(tmp_path / "packed.pth")


class Foreign:
    """Of a kind that is not read."""


def test_what_stands_at_a_billion_places_is_looked_at_once(tmp_path: Path) -> None:
    shared: list[object] = [Foreign()]
    for _ in range(60):
        shared = [shared, shared]
    shared.append(shared)
    torch.save({"model": shared}, tmp_path / "x.pth")
    with pytest.raises(UserError, match=r"x\.pth has .*Foreign where weights"):
        read_torch_file(tmp_path / "x.pth", parts=("model",))


def test_what_is_nested_too_deeply_is_one_sentence(tmp_path: Path) -> None:
    plain: list[object] = []
    innermost = plain
    for _ in range(2000):
        innermost.append([])
        innermost = innermost[0]  # type: ignore[assignment]
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)  # to write it
    try:
        torch.save({"model": plain, "other": Foreign()}, tmp_path / "x.pth")
    finally:
        sys.setrecursionlimit(limit)
    with pytest.raises(UserError, match="nested too deeply to be read"):
        read_torch_file(tmp_path / "x.pth", parts=("model",))


@pytest.mark.parametrize(
    ("header", "fault"),
    [
        ({}, "config"),
        ({"config": "{"}, "Expecting"),
        ({"config": "[" * 100_000}, "recursion"),
        ({"config": "[]"}, "not a mapping of sections"),
        ({"config": "9" * 5000}, "4300"),
        ({"config": "{}", "step": "x"}, "invalid literal"),
    ],
)
def test_a_header_of_anything_else_is_one_sentence(header: dict[str, str], fault: str, tmp_path: Path) -> None:
    format_name = {"format": "ear-checkpoint-1"}
    save_file(
        {"x": torch.zeros(1)}, tmp_path / "x.safetensors", {"step": "1", "dataset_hash": "", **format_name, **header}
    )
    with pytest.raises(UserError, match=f"is damaged: its header is incomplete .*{fault}"):
        load_header(tmp_path / "x.safetensors")
