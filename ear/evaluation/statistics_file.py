"""Files of real images' statistics, in ADM's layout (Dhariwal & Nichol 2021).

mu      mean [F] of features          } both, or neither: then they are computed from the images
sigma   covariance [F, F] of features }
arr_0   the images, uint8 [N, H, W, C], on which precision and recall rest
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ear.errors import UserError
from ear.evaluation.metrics import FeatureStatistics
from ear.torch_files import first_line

LAYOUT = (
    "the mean `mu` [F] and the covariance `sigma` [F, F] of real features, or real images `arr_0` [N, H, W, 3] uint8"
)
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
    if not arrays:
        raise UserError(f"evaluation.statistics: {path} has neither mu and sigma nor arr_0; it needs {LAYOUT}.")
    given = [name for name in ("mu", "sigma") if name in arrays]
    if len(given) == 1:
        lacking = "sigma" if given == ["mu"] else "mu"
        raise UserError(f"evaluation.statistics: {path} has {given[0]} and no {lacking}; it needs {LAYOUT}.")
    return StatisticsFile(
        path,
        _statistics(path, arrays["mu"], arrays["sigma"]) if given else None,
        _images(path, arrays["arr_0"]) if "arr_0" in arrays else None,
    )


def _read(path: Path) -> dict[str, NDArray[Any]]:
    """Those arrays of the layout that are there."""
    try:
        with path.open("rb") as file:
            is_array = file.read(6) == b"\x93NUMPY"
        if is_array or not zipfile.is_zipfile(path):
            reason = "it is a single array (.npy)" if is_array else "it is no zip archive, or a part of one"
            raise UserError(f"evaluation.statistics: {path} can't be read as an npz file: {reason}. It needs {LAYOUT}.")
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in ("mu", "sigma", "arr_0") if name in archive.files}
    except UserError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"evaluation.statistics: {path} can't be read ({reason}): check the path.") from error
    except Exception as error:  # numpy and zipfile meet damaged bytes with errors of any class
        raise UserError(
            f"evaluation.statistics: {path} can't be read as an npz file ({first_line(error)}): fetch it again."
        ) from error


def _statistics(path: Path, mean: NDArray[Any], covariance: NDArray[Any]) -> FeatureStatistics:
    for name, array in (("mu", mean), ("sigma", covariance)):
        if array.dtype.kind not in "fiu":
            raise UserError(f"evaluation.statistics: {name} of {path} is of {array.dtype}, not of real numbers.")
        if not np.isfinite(array).all():
            raise UserError(
                f"evaluation.statistics: {name} of {path} holds NaN or infinite values: fetch or compute it again."
            )
    if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)) or len(mean) == 0:
        raise UserError(
            f"evaluation.statistics: {path} holds a mean {mean.shape} and a covariance {covariance.shape}, which do "
            f"not belong together; it needs {LAYOUT}."
        )
    mean, covariance = mean.astype(np.float64), covariance.astype(np.float64)
    largest = np.abs(covariance).max()
    symmetric = np.abs(covariance - covariance.T).max() <= ROUNDING * largest
    if not symmetric or np.linalg.eigvalsh(covariance)[0] < -ROUNDING * largest:
        raise UserError(
            f"evaluation.statistics: sigma of {path} is no covariance: not symmetric, or with negative eigenvalues."
        )
    return FeatureStatistics(mean, covariance)


def _images(path: Path, images: NDArray[Any]) -> Tensor:
    if images.ndim != 4 or images.shape[3] not in (1, 3) or images.dtype != np.uint8:
        raise UserError(
            f"evaluation.statistics: arr_0 of {path} is {images.dtype} {images.shape}, not uint8 [N, H, W, 3]."
        )
    if len(images) < 2 or 0 in images.shape:
        raise UserError(
            f"evaluation.statistics: arr_0 of {path} is {images.shape}: two images or more are needed to compare with."
        )
    return torch.from_numpy(images).permute(0, 3, 1, 2)
