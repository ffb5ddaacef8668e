"""Reads files of real images' statistics in ADM's layout (Dhariwal & Nichol 2021).

mu      mean [F] of features          } both or neither; without them they are computed from the images
sigma   covariance [F, F] of features }
arr_0   the images, uint8 [N, H, W, C], for precision and recall
"""

import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.lib import format as npy
from numpy.typing import NDArray
from torch import Tensor

from ear.errors import UserError
from ear.evaluation.metrics import FeatureStatistics
from ear.files.writing import require_regular
from ear.weights.torch_files import first_line

LAYOUT = (
    "the mean `mu` [F] and the covariance `sigma` [F, F] of real features, or real images `arr_0` [N, H, W, 3] uint8"
)
MOST_FEATURES = 16_384  # whose covariance takes 2 GB; networks in use have at most 4,096
MOST_EXPANSION = 100  # most bytes in memory per byte of the file; compression about halves images
SMALL = 2**28  # bytes in memory that any file may need
ROUNDING = 1e-3  # relative to the largest entry, for a covariance in half precision


@dataclass(frozen=True)
class StatisticsFile:
    """The content of a statistics file."""

    path: Path
    statistics: FeatureStatistics | None  # None if they must be computed from the images
    images: Tensor | None  # [N, C, H, W] uint8, at least two


def read_statistics_file(path: Path) -> StatisticsFile:
    """Read and check a statistics file.

    Raises:
        UserError: it is missing, damaged or has another layout, or its numbers are not a mean and a covariance.
    """
    arrays = _read(path)
    given = "mu" in arrays
    return StatisticsFile(
        path,
        _statistics(path, arrays["mu"], arrays["sigma"]) if given else None,
        torch.from_numpy(arrays["arr_0"]).permute(0, 3, 1, 2) if "arr_0" in arrays else None,
    )


def _read(path: Path) -> dict[str, NDArray[Any]]:
    """Read the arrays of the layout that the file has, by name."""
    try:
        length = require_regular(path).st_size
        with path.open("rb") as file:
            is_array = file.read(6) == b"\x93NUMPY"
        if is_array or not zipfile.is_zipfile(path):
            reason = "it is a single array (.npy)" if is_array else "it is not a zip archive, or is incomplete"
            raise UserError(f"evaluation.statistics: {path} can't be read as an npz file: {reason}. It needs {LAYOUT}.")
        with zipfile.ZipFile(path) as archive:
            members = {name: f"{name}.npy" for name in ("mu", "sigma", "arr_0") if f"{name}.npy" in archive.namelist()}
            _require_layout(path, {name: _header(archive, member) for name, member in members.items()}, length)
            return {name: _array(archive, member) for name, member in members.items()}
    except UserError:
        raise
    except MemoryError:  # not the file's fault
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"evaluation.statistics: {path} can't be read ({reason}): check the path.") from error
    except Exception as error:  # numpy and zipfile raise all kinds of errors on damaged bytes
        raise UserError(
            f"evaluation.statistics: {path} can't be read as an npz file ({first_line(error)}): download it again."
        ) from error


@dataclass(frozen=True)
class _Header:
    """The header of an array in an archive."""

    shape: tuple[int, ...]
    kind: np.dtype[Any]
    length: int  # of the array's data in bytes, according to the archive

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.kind.itemsize


def _header(archive: zipfile.ZipFile, member: str) -> _Header:
    """Read the header of an array, without its data.

    Raises:
        ValueError: it is not an array, or the length of its data does not match its shape and type.
    """
    with archive.open(member) as file:
        shape, kind = _read_header(file)
        found = _Header(shape, kind, archive.getinfo(member).file_size - file.tell())
    if kind.hasobject or found.bytes != found.length:
        raise ValueError(f"{member} declares {kind} {shape} but has {found.length:,} bytes")
    return found


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = npy.read_magic(file)
    if version not in ((1, 0), (2, 0)):  # 3.0 is for arrays with named fields
        raise ValueError(f"an array of format {version}")
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, kind = read(file)
    return shape, kind


def _array(archive: zipfile.ZipFile, member: str) -> NDArray[Any]:
    with archive.open(member) as file:
        array: NDArray[Any] = npy.read_array(file, allow_pickle=False)
    return array


def _require_layout(path: Path, headers: dict[str, _Header], length: int) -> None:
    """Check the headers of the arrays before their data is read.

    Raises:
        UserError: the layout is another one, or a small file would expand to very much memory.
    """
    if not headers:
        raise UserError(f"evaluation.statistics: {path} has neither mu and sigma nor arr_0; it needs {LAYOUT}.")
    given = [name for name in ("mu", "sigma") if name in headers]
    if len(given) == 1:
        lacking = "sigma" if given == ["mu"] else "mu"
        raise UserError(f"evaluation.statistics: {path} has {given[0]} and no {lacking}; it needs {LAYOUT}.")
    for name in given:
        if headers[name].kind.kind not in "fiu":
            raise UserError(f"evaluation.statistics: {name} of {path} has type {headers[name].kind}, not real numbers.")
    if given:
        mean, covariance = headers["mu"].shape, headers["sigma"].shape
        if len(mean) != 1 or covariance != (*mean, *mean) or mean[0] == 0:
            raise UserError(
                f"evaluation.statistics: {path} has a mean {mean} and a covariance {covariance}, which do not match; "
                f"it needs {LAYOUT}."
            )
        if mean[0] > MOST_FEATURES:
            raise UserError(
                f"evaluation.statistics: {path} has {mean[0]:,} features, more than the limit of {MOST_FEATURES:,}: "
                "compute it with the features of evaluation.extractor."
            )
    if "arr_0" in headers:
        _require_images(path, headers["arr_0"])
    needed = sum(header.bytes for header in headers.values())
    if needed > max(SMALL, MOST_EXPANSION * length):
        raise UserError(
            f"evaluation.statistics: {path} has {length:,} bytes but would need {needed:,} in memory, more than "
            f"{MOST_EXPANSION} times as many, which real images and features never do: download or compute it again."
        )


def _statistics(path: Path, mean: NDArray[Any], covariance: NDArray[Any]) -> FeatureStatistics:
    for name, array in (("mu", mean), ("sigma", covariance)):
        if not np.isfinite(array).all():
            raise UserError(
                f"evaluation.statistics: {name} of {path} has NaN or infinite values: download or compute it again."
            )
    mean, covariance = mean.astype(np.float64), covariance.astype(np.float64)
    largest = np.abs(covariance).max()
    symmetric = np.abs(covariance - covariance.T).max() <= ROUNDING * largest
    if not symmetric or np.linalg.eigvalsh(covariance)[0] < -ROUNDING * largest:
        raise UserError(
            f"evaluation.statistics: sigma of {path} is not a covariance: it is not symmetric or has negative "
            "eigenvalues."
        )
    return FeatureStatistics(mean, covariance)


def _require_images(path: Path, images: _Header) -> None:
    if len(images.shape) != 4 or images.shape[3] not in (1, 3) or images.kind != np.uint8:
        raise UserError(
            f"evaluation.statistics: arr_0 of {path} is {images.kind} {images.shape}, not uint8 [N, H, W, 3]."
        )
    if images.shape[0] < 2 or 0 in images.shape:
        raise UserError(f"evaluation.statistics: arr_0 of {path} is {images.shape}: at least two images are needed.")
