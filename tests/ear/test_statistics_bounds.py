"""Of a statistics file everything is checked that can be known before its arrays are in memory."""

import io
import os
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from ear.errors import UserError
from ear.evaluation import statistics_file
from ear.evaluation.statistics_file import read_statistics_file

MEBIBYTE = 2**20


def header(shape: tuple[int, ...], kind: str) -> bytes:
    """An array that announces this and holds nothing."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": kind, "fortran_order": False, "shape": shape})
    return file.getvalue()


def archive(path: Path, zeros: int = 0, **members: bytes) -> Path:
    """An npz file of these members, the first followed by so many zero bytes, compressed."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as written:
        for name, content in members.items():
            with written.open(f"{name}.npy", "w", force_zip64=True) as member:
                member.write(content)
                for _ in range(zeros // MEBIBYTE):
                    member.write(bytes(MEBIBYTE))
                member.write(bytes(zeros % MEBIBYTE))
            zeros = 0
    return path


BOMBS: dict[str, tuple[int, dict[str, bytes], str]] = {
    "images of zeros": (
        100 * 256 * 256 * 3,
        {"arr_0": header((100, 256, 256, 3), "|u1")},
        r"but would need 19,660,800 in memory, more than 100 times as many",
    ),
    "another shape": (2**24, {"arr_0": header((2**24,), "|u1")}, r"arr_0 of .* is uint8 \(16777216,\), not uint8"),
    "another kind": (2**24, {"arr_0": header((2, 1024, 1024, 1), "<f8")}, "is float64 .2, 1024, 1024, 1., not uint8"),
    "more announced than there": (0, {"arr_0": header((2**20, 2**20, 2**10, 3), "|u1")}, "but has 0 bytes"),
    "no rectangle": (2**24, {"sigma": header((2**21,), "<f8"), "mu": header((0,), "<f8")}, "which do not match"),
    "objects": (8, {"arr_0": header((1,), "|O")}, r"arr_0.npy declares object \(1,\)"),
    "a format of named fields": (0, {"arr_0": b"\x93NUMPY\x03\x00" + bytes(100)}, r"an array of format \(3, 0\)"),
}


@pytest.mark.parametrize("case", BOMBS)
def test_a_file_that_would_fill_the_memory_costs_none(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zeros, members, message = BOMBS[case]
    monkeypatch.setattr(statistics_file, "SMALL", 2**23)  # writing a gigabyte of zeros takes a while
    path = archive(tmp_path / "x.npz", zeros, **members)
    assert path.stat().st_size < MEBIBYTE
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=message) as refused:
            read_statistics_file(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 * MEBIBYTE
    assert "\n" not in str(refused.value)


def test_a_covariance_of_more_features_than_any_network_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "x.npz", mu=np.zeros(50), sigma=np.eye(50))
    monkeypatch.setattr(statistics_file, "MOST_FEATURES", 49)
    with pytest.raises(UserError, match="has 50 features, more than the limit of 49"):
        read_statistics_file(tmp_path / "x.npz")


def test_packed_statistics_of_any_network_are_read(tmp_path: Path) -> None:
    """A covariance of one feature packs by a factor of thousands, and is small."""
    np.savez_compressed(tmp_path / "x.npz", mu=np.zeros(512), sigma=np.diag(np.eye(512)[0]))
    read = read_statistics_file(tmp_path / "x.npz")
    assert read.statistics is not None
    assert read.statistics.covariance.sum() == 1


def test_a_pipe_is_named_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.npz")
    with pytest.raises(UserError, match=r"pipe.npz can't be read \(it is a pipe, a socket or a device, not a file\)"):
        read_statistics_file(tmp_path / "pipe.npz")
