"""FID of a few images during training: good enough to stop hopeless trials, too biased to report."""

from pathlib import Path

import torch

from ear.config import RunConfig
from ear.data import Dataset
from ear.evaluation.extractors import load_extractor
from ear.evaluation.metrics import feature_statistics, frechet_distance
from ear.evaluation.reference import load_reference
from ear.process.execution import choose_device
from ear.sampling import Sampler, balanced_labels
from ear.sampling.checked_decoding import OverflowingSamplesError
from ear.store import RunKeys, Store


def few_image_fid(
    checkpoint: Path, config: RunConfig, keys: RunKeys, dataset: Dataset, store: Store, images: int
) -> float:
    """FID of `images` images with class labels.

    They are the first images of this configuration's evaluation, unless those would cover only the first classes. FID
    of few images is far too high, so compare it only between checkpoints with the same number of images. If sampling
    overflows, the FID of black images is returned.
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
    except OverflowingSamplesError:  # the weights were just saved, so they are not damaged but hopeless
        black = torch.zeros(images, *config.data.image_shape, dtype=torch.uint8)
        features = extractor.extract(black).features
    return frechet_distance(feature_statistics(features), reference.statistics)
