"""From a checkpoint to its metrics: sample with and without the label, extract features, compare with real ones."""

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

GRID_COLUMNS = 10  # images of a class in the sample sheet
GRID_ROWS = 10  # classes in it
FEW_IMAGES = 5  # images a feature, below which FID's bias is worth a warning


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
    """The evaluation that `keys.evaluation` names, from the store or computed and published there.

    Several processes share the sampling; the main one measures.

    Args:
        checkpoint: the weights to sample from; its EMA is used.
        config: gives sampling, evaluation and execution settings.
        on_images: called with the number of images generated so far by this process.
        keep_images: a folder for the generated images as PNG files; they are generated even if the metrics are known.
    """
    require_enough_images(config)
    # Every process asks for the key, which may mean hours of reading images: one reads, and the others wait for it
    # outside of collectives, whose time is limited.
    key = processes.from_main(keys.evaluation)
    if processes.from_main(key in store and keep_images is None):
        return load_evaluation(key, store)
    if processes.count > min(config.evaluation.images, config.evaluation.null_images):
        raise UserError(f"{processes.count} processes are more than there are images to sample: start fewer.")
    if processes.is_main:
        require_as_published(checkpoint)
        if keep_images is not None:
            begin_folder(keep_images, key)
    for module in ("torch_fidelity", "torchvision"):
        import_extra(module, "evaluation")  # before minutes of sampling, not after
    sampler = Sampler.load(checkpoint, config).to(choose_device(config.execution))
    if processes.is_main:  # may download its weights, which others then find
        extractor = _extractor(config, keys, dataset, store)
    processes.wait()
    if not processes.is_main:
        extractor = _extractor(config, keys, dataset, store)
    real = _reference(config, keys, dataset, extractor, store)  # by every process, for the reason above
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
    """Features of this evaluation's images with these labels, or without any; of all processes' images."""
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
    """What can be measured of the metrics, under the names that tables, MLflow and sweeps use."""
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
        f"FID {evaluation.metrics['fid']:.2f} comes from {images} images of {features} features each: with so few it "
        f"is too high, here by about {bias:.1f}. Compare it only with values from as many images, or measure more "
        "(--set evaluation.images=N).",
        stacklevel=2,
    )


def _publish(evaluation: Evaluation, sampler: Sampler, config: RunConfig, keys: RunKeys, store: Store) -> None:
    rows = min(GRID_ROWS, sampler.classes)
    classes = torch.arange(rows) * sampler.classes // rows
    # The same images as were measured: number i has class i modulo classes, unless there are fewer images than classes.
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
    """Makes what evaluations share, the extractor and the real features, unless the store holds them; to be called
    before trainings whose evaluation needs them.

    Raises:
        UserError: they can't be made, or the images can't be decoded: the evaluations would fail.
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
    """What generated images are compared with.

    Raises:
        UserError: it is missing, damaged, or too little.
    """
    real = load_reference(config, keys.reference, dataset, extractor, store)
    require_enough_images(config, real)
    return real
