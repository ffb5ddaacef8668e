"""Reads the idx format of MNIST and its descendants: a magic number, the sizes and the values, all big-endian."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ear.files.writing import require_regular

MOST_BYTES = 2**28  # unpacked: Fashion-MNIST's largest file has 47 MB, but a megabyte can expand to a gigabyte
UNSIGNED_BYTE = 0x08  # the format's code for unsigned bytes, the only type that these datasets use


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Read a plain or gzipped idx file of unsigned bytes with this number of dimensions.

    Raises:
        OSError: the file can't be read.
        ValueError: its content is not such an array. The message does not contain the path.
    """
    require_regular(path)
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except EOFError:
        raise ValueError("it is truncated: the gzip stream ends early") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"it is not a gzip file or a damaged one ({error})") from None
    if len(content) > MOST_BYTES:
        raise ValueError(f"it has more than {MOST_BYTES:,} bytes, which is the limit")
    header = 4 + 4 * dimensions
    magic = bytes([0, 0, UNSIGNED_BYTE, dimensions])
    if len(content) < header:
        raise ValueError(f"it is truncated: {len(content)} bytes, but the header alone needs {header}")
    if content[:4] != magic:
        raise ValueError(f"its magic number is {content[:4].hex()}, not {magic.hex()}")
    shape = tuple(int(size) for size in np.frombuffer(content, dtype=">u4", count=dimensions, offset=4))
    values = len(content) - header
    if values != math.prod(shape):
        fault = "it is truncated" if values < math.prod(shape) else "it is too long"
        sizes = " x ".join(map(str, shape))
        raise ValueError(f"{fault}: {values} bytes of values, but its header says {sizes}")
    return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(shape)
