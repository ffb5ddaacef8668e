"""What generated images are compared with: statistics and features of real ones, computed once."""

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ear.config import RunConfig
from ear.config.hashing import sha256
from ear.data import Dataset
from ear.data.base import evenly_spaced
from ear.errors import UserError
from ear.evaluation.extractors import Extractor
from ear.evaluation.metrics import FeatureStatistics, StatisticsAccumulator
from ear.execution import worker_processes
from ear.store import Store

MANIFOLD_IMAGES = 10_000  # real images that precision and recall look at, as many as ADM's reference batch has


@dataclass(frozen=True)
class Reference:
    name: str
    content_hash: str  # SHA-256 of the statistics file as sha256sum prints it, or of the real images' content
    statistics: FeatureStatistics  # of all its images
    features: Tensor | None  # [M, F] of MANIFOLD_IMAGES of them at most; None where there are only statistics
    images: int | None  # None where the file does not tell


def load_reference(config: RunConfig, key: str, dataset: Dataset, extractor: Extractor, store: Store) -> Reference:
    """The configured reference, from the store or computed and published there under `key`.

    Raises:
        UserError: there are no such images, or the statistics file does not fit the extractor.
    """
    if config.evaluation.statistics is not None:
        return _from_statistics_file(Path(config.evaluation.statistics), key, extractor, store)
    split = config.evaluation.reference

    def fill(folder: Path) -> None:
        batches = dataset.image_batches(split, config.execution.batch_size, worker_processes(config.execution))
        _measure(batches, dataset.split_size(split), extractor, folder)

    folder = store.get_or_create(key, "reference", fill)
    tensors = _load(folder)
    statistics = FeatureStatistics(tensors["mean"].numpy(), tensors["covariance"].numpy())
    return Reference(
        f"{dataset.name}/{split}",
        dataset.split_hash(split),
        statistics,
        tensors["features"],
        int(tensors["images"]),
    )


def _measure(batches: Iterator[Tensor], images: int, extractor: Extractor, folder: Path) -> None:
    accumulator, manifold = StatisticsAccumulator(), []
    wanted = evenly_spaced(images, MANIFOLD_IMAGES)
    for batch in batches:
        features = extractor.extract(batch).features
        first = accumulator.count
        accumulator.add(features)
        manifold.append(features[wanted[(wanted >= first) & (wanted < accumulator.count)] - first])
    statistics = accumulator.statistics()
    tensors = {
        "mean": torch.from_numpy(statistics.mean),
        "covariance": torch.from_numpy(statistics.covariance),
        "features": torch.cat(manifold),
        "images": torch.tensor(accumulator.count),
    }
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "features.safetensors")


def _load(folder: Path) -> dict[str, Tensor]:
    try:
        tensors = load_file(folder / "features.safetensors")
        if missing := {"mean", "covariance", "features", "images"} - set(tensors):
            raise ValueError(f"{', '.join(sorted(missing))} missing")
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(f"The features in {folder} are damaged ({error}): delete the folder.") from error
    return tensors


def _from_statistics_file(path: Path, key: str, extractor: Extractor, store: Store) -> Reference:
    """ADM's layout: `mu`, `sigma`, and perhaps the images themselves under `arr_0`."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if missing := {"mu", "sigma"} - set(arrays.files):
                raise UserError(
                    f"evaluation.statistics: {path} has no {' and no '.join(sorted(missing))}; it needs the mean `mu` "
                    "[F] and the covariance `sigma` [F, F] of real features."
                )
            mean, covariance = arrays["mu"].astype(np.float64), arrays["sigma"].astype(np.float64)
            images = arrays["arr_0"] if "arr_0" in arrays.files else None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"evaluation.statistics: {path} can't be read as an npz file: {error}.") from error
    features = extractor.extract(torch.zeros(1, 3, 64, 64, dtype=torch.uint8)).features.shape[1]
    if mean.shape != (features,) or covariance.shape != (features, features):
        raise UserError(
            f"evaluation.statistics: {path} holds a mean {mean.shape} and a covariance {covariance.shape}, but "
            f"{extractor.name} has {features} features: the statistics are of another extractor."
        )
    statistics, content_hash = FeatureStatistics(mean, covariance), sha256(path)
    if images is None:
        return Reference(path.name, content_hash, statistics, None, None)
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
        raise UserError(
            f"evaluation.statistics: arr_0 of {path} is {images.dtype} {images.shape}, not uint8 [N, H, W, 3]."
        )

    def fill(folder: Path) -> None:
        _measure(iter(torch.split(torch.from_numpy(images).permute(0, 3, 1, 2), 500)), len(images), extractor, folder)

    folder = store.get_or_create(key, "reference", fill)
    return Reference(path.name, content_hash, statistics, _load(folder)["features"], None)
