"""Reconstruction FID of a tokenizer, which is a lower bound on the FID of models on its tokens."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ear.config import RunConfig
from ear.data import Dataset, to_unit_range
from ear.errors import UserError
from ear.evaluation.evaluate import FEW_IMAGES
from ear.evaluation.extractors import load_extractor
from ear.evaluation.metrics import StatisticsAccumulator, frechet_distance
from ear.evaluation.reference import load_reference
from ear.process.execution import choose_device, worker_processes
from ear.sampling.checked_decoding import decoded_images
from ear.store import Store
from ear.tokenizers import fitted_tokenizer


@dataclass(frozen=True)
class Reconstruction:
    """The reconstruction metrics of a tokenizer."""

    fid: float  # of encoded and decoded images against the reference
    peak_signal_to_noise: float  # dB, of uint8 pixels: 10 log10(255^2 / mean squared error)
    images: int
    reference: str
    extractor: str
    warning: str  # "" if there are enough images


def reconstruct(
    config: RunConfig,
    extractor_key: str,
    reference_key: str,
    dataset: Dataset,
    store: Store,
    on_images: Callable[[int], object] = int,
) -> Reconstruction:
    """Encode and decode images of the reference split, and compare them with the split.

    Uses at most `evaluation.images` images, evenly spaced over the split. Latents are the posterior's mean, as is
    usual for reconstruction FID.

    Args:
        on_images: called with the number of images done.

    Raises:
        UserError: images, autoencoder or extractor are missing or damaged.
    """
    device = choose_device(config.execution)
    tokenizer = fitted_tokenizer(config, dataset).to(device)
    tokenizer.require_decoder()
    extractor = load_extractor(config.evaluation, extractor_key, dataset, store, device)
    reference = load_reference(config, reference_key, dataset, extractor, store)
    accumulator = StatisticsAccumulator()
    squared_error, pixels = 0.0, 0
    split, settings = config.evaluation.reference, config.execution
    most, workers = config.evaluation.images, worker_processes(settings)
    for images in dataset.image_batches(split, settings.batch_size, workers, most):
        if len(images) == 0:  # no image of the batch could be decoded
            continue
        with torch.inference_mode():
            decoded = decoded_images(tokenizer, tokenizer.encode(to_unit_range(images.to(device))))
        squared_error += (decoded.double() - images).square().sum().item()
        pixels += images.numel()
        features = extractor.extract(decoded).features
        accumulator.add(features)
        on_images(accumulator.count)
    if accumulator.count < 2:
        raise UserError(
            f"Only {accumulator.count} of the images to reconstruct (evaluation.images={most}) can be decoded: at "
            "least two are needed."
        )
    few = accumulator.count < FEW_IMAGES * features.shape[1]
    return Reconstruction(
        fid=frechet_distance(accumulator.statistics(), reference.statistics),
        peak_signal_to_noise=float(10 * torch.log10(torch.tensor(255.0**2 * pixels / max(squared_error, 1e-12)))),
        images=accumulator.count,
        reference=reference.name,
        extractor=extractor.name,
        warning="FID is too high with so few images" if few else "",
    )
