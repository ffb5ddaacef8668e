"""FID of few images in the middle of a training: good enough to see what is hopeless, too biased to be printed."""

from pathlib import Path

import torch

from ear.config import RunConfig
from ear.data import Dataset
from ear.evaluation.extractors import load_extractor
from ear.evaluation.metrics import feature_statistics, frechet_distance
from ear.evaluation.reference import load_reference
from ear.process.execution import choose_device
from ear.sampling import Sampler, balanced_labels
from ear.sampling.finite import OverflowingSamplesError
from ear.store import RunKeys, Store


def few_image_fid(
    checkpoint: Path, config: RunConfig, keys: RunKeys, dataset: Dataset, store: Store, images: int
) -> float:
    """FID of the first `images` images of this configuration's evaluation, with class labels, or as many others where
    those would be of the first classes only.

    Comparable between checkpoints at an equal number of images only: FID of few images is far too high. Where sampling
    overflows, that of black images.
    """
    device = choose_device(config.execution)
    extractor = load_extractor(config.evaluation, keys.extractor, dataset, store, device)
    reference = load_reference(config, keys.reference, dataset, extractor, store)
    sampler = Sampler.load(checkpoint, config).to(device)
    labels = balanced_labels(images, sampler.classes)
    batches = sampler.batches(
        labels, range(images), config.sampling, seed=config.evaluation.seed, batch_size=config.execution.batch_size
    )
    try:
        features = torch.cat([extractor.extract(batch).features for batch in batches])
    except OverflowingSamplesError:  # of weights that were saved a moment ago: hopeless, and to be stopped as such
        black = torch.zeros(images, *config.data.image_shape, dtype=torch.uint8)
        features = extractor.extract(black).features
    return frechet_distance(feature_statistics(features), reference.statistics)
