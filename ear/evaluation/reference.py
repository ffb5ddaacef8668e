"""The reference of an evaluation: statistics and features of real images, computed once and kept in the store."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ear.config import RunConfig
from ear.data import Dataset
from ear.data.base import evenly_spaced
from ear.errors import UserError
from ear.evaluation.extractors import Extractor
from ear.evaluation.metrics import FeatureStatistics, StatisticsAccumulator
from ear.evaluation.statistics_file import read_statistics_file
from ear.files.hashes import cached_sha256
from ear.process.execution import worker_processes
from ear.store import Store
from ear.store.store import NO_HASHES, REMEDY
from ear.store.verify import require_as_published

BATCH = 500  # images of a statistics file per batch
MANIFOLD_IMAGES = 10_000  # real images for precision and recall, as many as in ADM's reference batch


@dataclass(frozen=True)
class Reference:
    """Statistics and features of the real images that generated ones are compared with."""

    name: str
    content_hash: str  # SHA-256 of the statistics file as sha256sum prints it, or of the real images' content
    statistics: FeatureStatistics  # of all its images
    features: Tensor | None  # [M, F] of at most MANIFOLD_IMAGES of them; None if there are only statistics
    images: int | None  # None if the statistics file does not say


def load_reference(config: RunConfig, key: str, dataset: Dataset, extractor: Extractor, store: Store) -> Reference:
    """Load the configured reference. Real images' features are computed if the store does not have them under `key`.

    Raises:
        UserError: the images are missing, or the statistics file does not fit the extractor.
    """
    if config.evaluation.statistics is not None:
        return _from_statistics_file(Path(config.evaluation.statistics), key, extractor, store)
    split = config.evaluation.reference

    def fill(folder: Path) -> None:
        dataset.split_hash(split)  # once this process knows it, the images' bytes are compared with it as they are read
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
    """Compute the statistics and manifold features of real images and write them to a folder.

    Raises:
        UserError: fewer than two images can be decoded, so that there is no covariance.
    """
    accumulator, manifold = StatisticsAccumulator(), []
    wanted = evenly_spaced(images, MANIFOLD_IMAGES)
    for batch in batches:
        if len(batch) == 0:  # no image of the batch could be decoded
            continue
        features = extractor.extract(batch).features
        first = accumulator.count
        accumulator.add(features)
        manifold.append(features[wanted[(wanted >= first) & (wanted < accumulator.count)] - first])
    if accumulator.count < 2:
        raise UserError(
            f"Only {accumulator.count} of the {images} real images to compare with can be decoded: at least two are "
            "needed."
        )
    statistics = accumulator.statistics()
    tensors = {
        "mean": torch.from_numpy(statistics.mean),
        "covariance": torch.from_numpy(statistics.covariance),
        "features": torch.cat(manifold),
        "images": torch.tensor(accumulator.count),
    }
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "features.safetensors")


def _load(folder: Path) -> dict[str, Tensor]:
    require_as_published(folder / "features.safetensors")
    try:
        tensors = load_file(folder / "features.safetensors")
        if missing := {"mean", "covariance", "features", "images"} - set(tensors):
            raise ValueError(f"{', '.join(sorted(missing))} missing")
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(f"The features in {folder} are damaged ({error}): {REMEDY} {NO_HASHES}") from error
    return tensors


def _from_statistics_file(path: Path, key: str, extractor: Extractor, store: Store) -> Reference:
    """Load a reference from a statistics file. Statistics or features that it lacks are computed from its images."""
    file = read_statistics_file(path)
    shape = extractor.image_shape
    given, images = file.statistics, file.images
    if given is not None and len(given.mean) != (features := extractor.feature_count):
        raise UserError(
            f"evaluation.statistics: {path} has a mean {given.mean.shape} and a covariance {given.covariance.shape}, "
            f"but {extractor.name} has {features} features: the statistics were computed with another extractor."
        )
    if images is None:
        assert given is not None
        return Reference(path.name, cached_sha256(path), given, None, None)
    if shape is not None and images.shape[1:] != shape:
        raise UserError(
            f"evaluation.statistics: arr_0 of {path} has images of {_pixels(images.shape[1:])}, but {extractor.name} "
            f"needs {_pixels(shape)}: these are images of another dataset."
        )

    def fill(folder: Path) -> None:
        _measure(iter(torch.split(images, BATCH)), len(images), extractor, folder)

    tensors = _load(store.get_or_create(key, "reference", fill))
    statistics = given or FeatureStatistics(tensors["mean"].numpy(), tensors["covariance"].numpy())
    images_used = None if given else int(tensors["images"])
    return Reference(path.name, cached_sha256(path), statistics, tensors["features"], images_used)


def _pixels(shape: Sequence[int]) -> str:
    channels, height, width = shape
    return f"{height}x{width} pixels in {channels} channel{'s' if channels > 1 else ''}"


def require_enough_images(config: RunConfig, real: Reference | None = None) -> None:
    """Check that there are more images than neighbours, as precision and recall need.

    Raises:
        UserError: there are not, generated or real.
    """
    settings = config.evaluation
    counts = {"evaluation.images": settings.images, "evaluation.null_images": settings.null_images}
    if real is not None and real.features is not None:
        counts[f"the number of images of {real.name}"] = len(real.features)
    name, fewest = min(counts.items(), key=lambda item: item[1])
    if settings.neighbours >= fewest:
        raise UserError(
            f"evaluation.neighbours is {settings.neighbours}, but {name} is {fewest}: precision and recall need more "
            "images than neighbours; 3 neighbours are usual."
        )
