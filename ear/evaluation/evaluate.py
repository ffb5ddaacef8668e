"""Evaluates a checkpoint: samples with and without labels, extracts features and compares them with real ones."""

import time
import warnings
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
import yaml
from torch import Tensor

from ear.config import RunConfig
from ear.data import Dataset
from ear.data.folder_dataset import FolderDataset
from ear.errors import UserError, import_extra
from ear.evaluation.extractors import Extractor, Features, load_extractor
from ear.evaluation.image_files import ImageFiles, begin_folder
from ear.evaluation.metrics import (
    feature_statistics,
    frechet_bias,
    frechet_distance,
    inception_score,
    precision_recall,
)
from ear.evaluation.reference import Reference, load_reference, require_enough_images
from ear.evaluation.result import Evaluation, load_evaluation
from ear.files.writing import write_json, write_text
from ear.process.distributed import ALONE, Processes
from ear.process.execution import choose_device
from ear.sampling import Sampler, balanced_labels, save_grid
from ear.store import RunKeys, Store
from ear.store.outdated import REFERENCE
from ear.store.verify import require_as_published
from ear.tokenizers import KLTokenizer, build_tokenizer

GRID_COLUMNS = 10  # images per class in the sample grid
GRID_ROWS = 10  # classes in the sample grid
FEW_IMAGES = 5  # images per feature below which a warning of FID's bias is given


def evaluate(
    checkpoint: Path,
    config: RunConfig,
    keys: RunKeys,
    dataset: Dataset,
    store: Store,
    *,
    processes: Processes = ALONE,
    on_images: Callable[[float], object] = float,
    keep_images: Path | None = None,
) -> Evaluation:
    """Evaluate a checkpoint and publish the result under `keys.evaluation`, or load it if the store already has it.

    Several processes share the sampling; the main one computes the metrics.

    Args:
        checkpoint: the checkpoint whose EMA weights are sampled from.
        config: the sampling, evaluation and execution settings.
        on_images: called with the number of images that this process has generated so far.
        keep_images: a folder for the generated images as PNG files. They are generated even if the metrics are known.

    Raises:
        UserError: the checkpoint, the extractor or the reference is missing or damaged, or there are too few images.
    """
    require_enough_images(config)
    # Every process computes the key, which may mean hours of reading images: one reads, and the others wait for it
    # outside of collectives, which would time out.
    key = processes.from_main(keys.evaluation)
    if processes.from_main(key in store and keep_images is None):
        return load_evaluation(key, store)
    if processes.count > min(config.evaluation.images, config.evaluation.null_images):
        raise UserError(f"{processes.count} processes exceed the number of images to sample: start fewer processes.")
    if processes.is_main:
        require_as_published(checkpoint)
        if keep_images is not None:
            begin_folder(keep_images, key)
    for module in ("torch_fidelity", "torchvision"):
        import_extra(module, "evaluation")  # fail now, not after minutes of sampling
    sampler = Sampler.load(checkpoint, config).to(choose_device(config.execution))
    if processes.is_main:  # first, since it may download weights, which the others then find
        extractor = _extractor(config, keys, dataset, store)
    processes.wait()
    if not processes.is_main:
        extractor = _extractor(config, keys, dataset, store)
    real = _reference(config, keys, dataset, extractor, store)  # in every process, for the same reason as the key
    started = time.perf_counter()
    settings = config.evaluation
    labels = balanced_labels(settings.images, sampler.classes)
    files = ImageFiles(keep_images) if keep_images else None
    done = 0.0

    def progress(images: float) -> None:
        nonlocal done
        done += images
        on_images(done)

    labelled = _sampled_features(sampler, config, labels, extractor, processes, files, progress)
    unlabelled = _sampled_features(sampler, config, None, extractor, processes, files, progress)
    if processes.is_main:
        evaluation = Evaluation(
            metrics={
                **measure(labelled, real, settings.neighbours),
                **{f"{name}_null": value for name, value in measure(unlabelled, real, settings.neighbours).items()},
            },
            extractor=extractor.name,
            extractor_accuracy=extractor.accuracy,
            extractor_hash=extractor.weights_hash,
            reference=real.name,
            reference_images=real.images,
            images=settings.images,
            null_images=settings.null_images,
            seconds=time.perf_counter() - started,
            reference_hash=real.content_hash,
        )
        _warn_of_bias(labelled, real, evaluation)
        _publish(evaluation, sampler, config, keys, store)
    processes.wait()
    return load_evaluation(key, store)


def _sampled_features(
    sampler: Sampler,
    config: RunConfig,
    labels: Tensor | None,
    extractor: Extractor,
    processes: Processes,
    files: ImageFiles | None,
    progress: Callable[[float], object],
) -> Features:
    """Sample this process's share of the images, with `labels` or without, and return the features of all shares."""
    total = config.evaluation.null_images if labels is None else len(labels)
    share = processes.share(total)
    parts = []
    for images in sampler.batches(
        None if labels is None else labels[share.start : share.stop],
        share,
        config.sampling,
        seed=config.evaluation.seed,
        batch_size=config.execution.batch_size,
        on_step=progress,
    ):
        parts.append(extractor.extract(images))
        if files is not None:
            files.write(images, labels, share.start + sum(len(part) for part in parts[:-1]))
    features = processes.gather_rows(torch.cat([part.features for part in parts]))
    if parts[0].logits is None:
        return Features(features, None)
    return Features(
        features, processes.gather_rows(torch.cat([part.logits for part in parts if part.logits is not None]))
    )


def measure(generated: Features, real: Reference, neighbours: int) -> dict[str, float]:
    """Compute all measurable metrics, under the names that tables, MLflow and sweeps use."""
    metrics = {"fid": frechet_distance(feature_statistics(generated.features), real.statistics)}
    if generated.logits is not None:
        metrics |= inception_score(generated.logits)
    if real.features is not None:
        metrics |= precision_recall(generated.features, real.features, neighbours)
    return metrics


def _warn_of_bias(generated: Features, real: Reference, evaluation: Evaluation) -> None:
    images, features = generated.features.shape
    if images >= FEW_IMAGES * features:
        return
    bias = frechet_bias(generated.features, real.statistics)
    warnings.warn(
        f"FID {evaluation.metrics['fid']:.2f} comes from {images} images of {features} features each. With so few "
        f"images it is too high, here by about {bias:.1f}. Compare it only with values from the same number of images, "
        "or evaluate more (--set evaluation.images=N).",
        stacklevel=2,
    )


def _publish(evaluation: Evaluation, sampler: Sampler, config: RunConfig, keys: RunKeys, store: Store) -> None:
    rows = min(GRID_ROWS, sampler.classes)
    classes = torch.arange(rows) * sampler.classes // rows
    # The images that were measured: number i has class i modulo classes, unless there are fewer images than classes.
    numbers = (classes.unsqueeze(1) + sampler.classes * torch.arange(GRID_COLUMNS)).flatten()
    draw = partial(
        sampler.sample,
        settings=config.sampling,
        seed=config.evaluation.seed,
        batch_size=config.execution.batch_size,
    )
    labelled = draw(numbers % sampler.classes, numbers.tolist())
    unlabelled = draw(None, range(GRID_COLUMNS))

    def fill(folder: Path) -> None:
        write_json(folder / "evaluation.json", asdict(evaluation))
        write_text(folder / "config.yaml", yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
        save_grid(labelled, folder / "samples.png", columns=GRID_COLUMNS)
        save_grid(unlabelled, folder / "samples_null.png", columns=GRID_COLUMNS)

    needs = (keys.training, keys.reference, keys.extractor)
    details = {"training": keys.training, REFERENCE: evaluation.reference_hash}
    store.publish(keys.evaluation, "evaluation", fill, details, needs)


def prepare(config: RunConfig, keys: RunKeys, dataset: Dataset, store: Store) -> None:
    """Compute the extractor and the real images' features, which evaluations share, unless the store has them.

    Call it before trainings, so that an evaluation that can't work fails before them.

    Raises:
        UserError: the extractor or the features can't be computed, or latents can't be decoded.
    """
    require_enough_images(config)
    tokenizer = build_tokenizer(config)
    tokenizer.require_decoder()
    if isinstance(tokenizer, KLTokenizer) and isinstance(dataset, FolderDataset) and dataset.config.latents is not None:
        data = dataset.config
        dataset.cache.check(classes=data.classes, size=data.size, tokenizer_hash=tokenizer.content_hash())
    _reference(config, keys, dataset, _extractor(config, keys, dataset, store), store)


def _extractor(config: RunConfig, keys: RunKeys, dataset: Dataset, store: Store) -> Extractor:
    return load_extractor(config.evaluation, keys.extractor, dataset, store, choose_device(config.execution))


def _reference(config: RunConfig, keys: RunKeys, dataset: Dataset, extractor: Extractor, store: Store) -> Reference:
    """Load the real images' statistics and features.

    Raises:
        UserError: they are missing or damaged, or there are too few images.
    """
    real = load_reference(config, keys.reference, dataset, extractor, store)
    require_enough_images(config, real)
    return real
