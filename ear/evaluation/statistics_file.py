"""Files of real images' statistics, in ADM's layout (Dhariwal & Nichol 2021).

mu      mean [F] of features          } both, or neither: then they are computed from the images
sigma   covariance [F, F] of features }
arr_0   the images, uint8 [N, H, W, C], on which precision and recall rest
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
MOST_FEATURES = 16_384  # of a covariance, which then fills 2 GB; networks in use have 4,096 at most
MOST_EXPANSION = 100  # times as long as the file: images shrink to a half when they are packed
SMALL = 2**28  # bytes that may come from any file
ROUNDING = 1e-3  # of the largest entry: of a covariance in half precision


@dataclass(frozen=True)
class StatisticsFile:
    path: Path
    statistics: FeatureStatistics | None  # None where they are to be computed from the images
    images: Tensor | None  # [N, C, H, W] uint8, two or more


def read_statistics_file(path: Path) -> StatisticsFile:
    """
    Raises:
        UserError: it is missing, damaged or laid out otherwise, or its numbers are no mean and covariance.
    """
    arrays = _read(path)
    given = "mu" in arrays
    return StatisticsFile(
        path,
        _statistics(path, arrays["mu"], arrays["sigma"]) if given else None,
        torch.from_numpy(arrays["arr_0"]).permute(0, 3, 1, 2) if "arr_0" in arrays else None,
    )


def _read(path: Path) -> dict[str, NDArray[Any]]:
    """Those arrays of the layout that are there."""
    try:
        length = require_regular(path).st_size
        with path.open("rb") as file:
            is_array = file.read(6) == b"\x93NUMPY"
        if is_array or not zipfile.is_zipfile(path):
            reason = "it is a single array (.npy)" if is_array else "it is no zip archive, or a part of one"
            raise UserError(f"evaluation.statistics: {path} can't be read as an npz file: {reason}. It needs {LAYOUT}.")
        with zipfile.ZipFile(path) as archive:
            members = {name: f"{name}.npy" for name in ("mu", "sigma", "arr_0") if f"{name}.npy" in archive.namelist()}
            _require_layout(path, {name: _header(archive, member) for name, member in members.items()}, length)
            return {name: _array(archive, member) for name, member in members.items()}
    except UserError:
        raise
    except MemoryError:  # of this machine, not of the file
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"evaluation.statistics: {path} can't be read ({reason}): check the path.") from error
    except Exception as error:  # numpy and zipfile meet damaged bytes with errors of any class
        raise UserError(
            f"evaluation.statistics: {path} can't be read as an npz file ({first_line(error)}): fetch it again."
        ) from error


@dataclass(frozen=True)
class _Header:
    """What an array in an archive says of itself, before it is read."""

    shape: tuple[int, ...]
    kind: np.dtype[Any]
    length: int  # bytes, as the archive has it

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.kind.itemsize


def _header(archive: zipfile.ZipFile, member: str) -> _Header:
    """
    Raises:
        ValueError: it is no array, or its length is not that of the numbers it announces.
    """
    with archive.open(member) as file:
        shape, kind = _read_header(file)
        found = _Header(shape, kind, archive.getinfo(member).file_size - file.tell())
    if kind.hasobject or found.bytes != found.length:
        raise ValueError(f"{member} announces {kind} {shape}, and has {found.length:,} bytes for it")
    return found


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = npy.read_magic(file)
    if version not in ((1, 0), (2, 0)):  # 3.0 is of arrays with named fields
        raise ValueError(f"an array of format {version}")
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, kind = read(file)
    return shape, kind


def _array(archive: zipfile.ZipFile, member: str) -> NDArray[Any]:
    with archive.open(member) as file:
        array: NDArray[Any] = npy.read_array(file, allow_pickle=False)
    return array


def _require_layout(path: Path, headers: dict[str, _Header], length: int) -> None:
    """Looks at all that can be known of arrays before they are in memory.

    Raises:
        UserError: they are of another layout, or would fill the memory out of a small file.
    """
    if not headers:
        raise UserError(f"evaluation.statistics: {path} has neither mu and sigma nor arr_0; it needs {LAYOUT}.")
    given = [name for name in ("mu", "sigma") if name in headers]
    if len(given) == 1:
        lacking = "sigma" if given == ["mu"] else "mu"
        raise UserError(f"evaluation.statistics: {path} has {given[0]} and no {lacking}; it needs {LAYOUT}.")
    for name in given:
        if headers[name].kind.kind not in "fiu":
            raise UserError(f"evaluation.statistics: {name} of {path} is of {headers[name].kind}, not of real numbers.")
    if given:
        mean, covariance = headers["mu"].shape, headers["sigma"].shape
        if len(mean) != 1 or covariance != (*mean, *mean) or mean[0] == 0:
            raise UserError(
                f"evaluation.statistics: {path} holds a mean {mean} and a covariance {covariance}, which do not belong "
                f"together; it needs {LAYOUT}."
            )
        if mean[0] > MOST_FEATURES:
            raise UserError(
                f"evaluation.statistics: {path} is of {mean[0]:,} features, and at most {MOST_FEATURES:,} are read: "
                "compute it with the features of evaluation.extractor."
            )
    if "arr_0" in headers:
        _require_images(path, headers["arr_0"])
    needed = sum(header.bytes for header in headers.values())
    if needed > max(SMALL, MOST_EXPANSION * length):
        raise UserError(
            f"evaluation.statistics: {path} has {length:,} bytes and would fill {needed:,} in memory, more than "
            f"{MOST_EXPANSION} times as many: real images and features don't; fetch or compute it again."
        )


def _statistics(path: Path, mean: NDArray[Any], covariance: NDArray[Any]) -> FeatureStatistics:
    for name, array in (("mu", mean), ("sigma", covariance)):
        if not np.isfinite(array).all():
            raise UserError(
                f"evaluation.statistics: {name} of {path} holds NaN or infinite values: fetch or compute it again."
            )
    mean, covariance = mean.astype(np.float64), covariance.astype(np.float64)
    largest = np.abs(covariance).max()
    symmetric = np.abs(covariance - covariance.T).max() <= ROUNDING * largest
    if not symmetric or np.linalg.eigvalsh(covariance)[0] < -ROUNDING * largest:
        raise UserError(
            f"evaluation.statistics: sigma of {path} is no covariance: not symmetric, or with negative eigenvalues."
        )
    return FeatureStatistics(mean, covariance)


def _require_images(path: Path, images: _Header) -> None:
    if len(images.shape) != 4 or images.shape[3] not in (1, 3) or images.kind != np.uint8:
        raise UserError(
            f"evaluation.statistics: arr_0 of {path} is {images.kind} {images.shape}, not uint8 [N, H, W, 3]."
        )
    if images.shape[0] < 2 or 0 in images.shape:
        raise UserError(
            f"evaluation.statistics: arr_0 of {path} is {images.shape}: two images or more are needed to compare with."
        )
