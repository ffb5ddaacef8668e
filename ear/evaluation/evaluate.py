"""From a checkpoint to its metrics: sample with and without the label, extract features, compare with real ones."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ear.config import RunConfig
from ear.data import ImageDataset
from ear.errors import UserError, import_extra
from ear.evaluation.extractors import Extractor, load_extractor
from ear.evaluation.metrics import Metrics, compute_metrics
from ear.evaluation.reference import load_reference
from ear.execution import choose_device
from ear.files import write_json
from ear.sampling import Sampler, balanced_labels, save_grid
from ear.store import RunKeys, Store

GRID_COLUMNS = 10  # images of a class in the sample sheet


@dataclass(frozen=True)
class Evaluation:
    """Metrics, never without what they were measured with."""

    metrics: dict[str, float]  # fid, is, precision, recall; the same with _null for samples without a label
    extractor: str
    extractor_accuracy: float
    extractor_hash: str
    reference: str  # dataset and split
    reference_images: int
    images: int  # generated with labels
    null_images: int  # generated without
    seconds: float  # of sampling and measuring


def evaluate(
    checkpoint: Path,
    config: RunConfig,
    keys: RunKeys,
    dataset: ImageDataset,
    store: Store,
    on_images: Callable[[int], object] = int,
) -> Evaluation:
    """The evaluation that `keys.evaluation` names, from the store or computed and published there.

    Args:
        checkpoint: the weights to sample from; its EMA is used.
        config: gives sampling and evaluation settings.
        on_images: called with the number of images generated so far.
    """
    if keys.evaluation in store:
        return load_evaluation(keys.evaluation, store)
    for module in ("torch_fidelity", "torchvision"):
        import_extra(module, "evaluation")  # before minutes of sampling, not after
    extractor = load_extractor(config.evaluation.extractor, keys.extractor, dataset, store)
    real = load_reference(keys.reference, dataset.split(config.evaluation.reference), extractor, store)
    sampler = Sampler.load(checkpoint).to(choose_device(config.execution))
    started = time.perf_counter()
    settings = config.evaluation
    labels = balanced_labels(settings.images, dataset.classes)

    def sample(labels: Tensor | None, images: int, done_before: int) -> Tensor:
        return sampler.sample(
            labels,
            range(images),
            config.sampling,
            seed=settings.seed,
            batch_size=config.execution.batch_size,
            on_images=lambda done: on_images(done_before + done),
        )

    labelled = sample(labels, settings.images, 0)
    unlabelled = sample(None, settings.null_images, settings.images)
    metrics = {
        **named_metrics(compute_metrics(extractor.extract(labelled), real, neighbours=settings.neighbours)),
        **named_metrics(compute_metrics(extractor.extract(unlabelled), real, neighbours=settings.neighbours), "_null"),
    }
    evaluation = Evaluation(
        metrics=metrics,
        extractor=extractor.name,
        extractor_accuracy=extractor.accuracy,
        extractor_hash=extractor.weights_hash,
        reference=f"{dataset.name}/{settings.reference}",
        reference_images=len(real),
        images=settings.images,
        null_images=settings.null_images,
        seconds=time.perf_counter() - started,
    )

    def fill(folder: Path) -> None:
        write_json(folder / "evaluation.json", vars(evaluation))
        by_class = [labelled[labels == label][:GRID_COLUMNS] for label in range(dataset.classes)]
        save_grid(torch.cat(by_class), folder / "samples.png", columns=GRID_COLUMNS)
        save_grid(unlabelled[:GRID_COLUMNS], folder / "samples_null.png", columns=GRID_COLUMNS)

    store.publish(keys.evaluation, "evaluation", fill, {"training": keys.training})
    return evaluation


def load_evaluation(key: str, store: Store) -> Evaluation:
    """A published evaluation.

    Raises:
        UserError: it is damaged.
    """
    path = store.path(key) / "evaluation.json"
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return Evaluation(**values)
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}): delete its folder and evaluate again.") from error


def prepare(config: RunConfig, keys: RunKeys, dataset: ImageDataset, store: Store) -> Extractor:
    """Makes what evaluations share, the extractor and the real features, unless the store holds them."""
    extractor = load_extractor(config.evaluation.extractor, keys.extractor, dataset, store)
    load_reference(keys.reference, dataset.split(config.evaluation.reference), extractor, store)
    return extractor


def named_metrics(metrics: Metrics, suffix: str = "") -> dict[str, float]:
    """Under the names that tables, MLflow and sweeps use."""
    return {
        f"fid{suffix}": metrics.fid,
        f"is{suffix}": metrics.inception_score,
        f"is_std{suffix}": metrics.inception_score_std,
        f"precision{suffix}": metrics.precision,
        f"recall{suffix}": metrics.recall,
    }
