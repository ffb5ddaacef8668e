"""The sample images of runs, and real ones beside them, as arrays."""

import io
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.image import imread
from numpy.typing import NDArray

from analysis.results import SweepResults
from ear.config import RunConfig
from ear.config.yaml_text import parse_yaml
from ear.errors import UserError
from ear.evaluation.result import load_evaluation
from ear.store import Store

Images = NDArray[np.uint8]  # [rows, columns, height, width, RGB]

COLUMNS = 10  # of the grids that evaluations store
LABELLED, UNLABELLED = "samples.png", "samples_null.png"
GUIDANCE = 2.0  # at which readers recognise digits; without guidance many are not drawn to the end
MOST_SECONDS = 10.0  # that sampling a sheet anew may take
CHECKPOINT = "checkpoint.safetensors"


@dataclass(frozen=True)
class SampleImages:
    """The samples of a run."""

    labelled: Images  # a row per class, a column per image
    unlabelled: Images  # one row


def sample_images(results: SweepResults, run: dict[str, Any], store: Store) -> SampleImages | None:
    """Returns the samples that a run's evaluation stored, from the store or from MLflow; None if both lack them."""
    found = []
    for name in (LABELLED, UNLABELLED):
        content = _in_store(store.path(run["key"]) / name) or _in_mlflow(results, run, name)
        if content is None or (tiles := cut(imread(io.BytesIO(content), format="png"))) is None:
            return None
        found.append(tiles)
    return SampleImages(*found)


def _in_mlflow(results: SweepResults, run: dict[str, Any], name: str) -> bytes | None:
    if results.client is None:
        return None
    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory() as folder:
        try:
            return Path(results.client.download_artifacts(run["run_id"], name, folder)).read_bytes()
        except (MlflowException, OSError):
            return None


def _in_store(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def cut(picture: NDArray[np.float32]) -> Images | None:
    """Cuts a grid of `ear.sampling.save_grid` with ten columns into its images, in their own size; None if it is none.

    Such a picture is 10 t + 11 g pixels wide for enlarged images of t pixels and gaps of g < 10.
    """
    height, width = picture.shape[:2]
    gap = width % COLUMNS
    if gap < 2 or (tile := (width - gap) // COLUMNS - gap) < 1 or (height - gap) % (tile + gap):
        return None
    rows = (height - gap) // (tile + gap)
    pixels = (picture[..., :3] * 255).round().astype(np.uint8)
    starts = [[(gap + row * (tile + gap), gap + at * (tile + gap)) for at in range(COLUMNS)] for row in range(rows)]
    tiles = np.stack([np.stack([pixels[y : y + tile, x : x + tile] for y, x in row]) for row in starts])
    scale = gap if gap > 2 else 2 if _is_doubled(tiles) else 1  # small images were enlarged to 32 pixels or more
    return tiles[:, :, ::scale, ::scale]


def _is_doubled(tiles: Images) -> bool:
    """Whether all pixels come in equal squares of two by two."""
    even = tiles[:, :, ::2, ::2].repeat(2, 2).repeat(2, 3)
    return even.shape == tiles.shape and bool((even == tiles).all())


def guided_images(run: dict[str, Any], store: Store, classes: int, columns: int) -> SampleImages | None:
    """Samples a run's checkpoint anew at `GUIDANCE`: the images that its evaluation measured, but with guidance.

    They begin with the same noise and orders as the measured ones. Returns None if the evaluation already used as much
    guidance, if the store lacks the evaluation or the checkpoint, or if sampling would take longer than `MOST_SECONDS`
    for a sheet of 20 configurations, judged by how long the evaluation took.
    """
    checkpoint = store.path(run["stages"][-1]) / CHECKPOINT if run["stages"] else None
    if checkpoint is None or not checkpoint.exists() or run["key"] not in store:
        return None
    try:
        config = evaluated_config(run, store)
        evaluation = load_evaluation(run["key"], store)
        count = classes * columns + columns
        a_sheet = 20 * count * evaluation.seconds / (evaluation.images + evaluation.null_images)
        if config.sampling.cfg >= GUIDANCE or a_sheet > MOST_SECONDS:
            return None
        return _sampled(checkpoint, config, classes, columns)
    except UserError:  # of damaged files; the report itself checks what its numbers rest on
        return None


def evaluated_config(run: dict[str, Any], store: Store) -> RunConfig:
    """Returns the configuration that a run was evaluated with.

    Raises:
        UserError: the store lacks it, or it is damaged.
    """
    path = store.path(run["key"]) / "config.yaml"
    try:
        return RunConfig.model_validate(parse_yaml(path.read_text(encoding="utf-8"), str(path)))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} can't be read ({error}).") from error


def _sampled(checkpoint: Path, config: RunConfig, classes: int, columns: int) -> SampleImages:
    import torch  # takes seconds

    from ear.process.execution import set_up
    from ear.sampling import Sampler

    sampler = Sampler.load(checkpoint, config).to(set_up(config.execution))
    shown = torch.arange(classes) * sampler.classes // classes
    numbers = (shown.unsqueeze(1) + sampler.classes * torch.arange(columns)).flatten()  # as in `ear.evaluation`
    settings = config.sampling.model_copy(update={"cfg": GUIDANCE})
    seed = config.evaluation.seed
    labelled = sampler.sample(numbers % sampler.classes, numbers.tolist(), settings, seed=seed)
    unlabelled = sampler.sample(None, range(columns), settings, seed=seed)
    return SampleImages(_rgb(labelled.numpy(), classes), _rgb(unlabelled.numpy(), 1))


def _rgb(images: NDArray[np.uint8], rows: int) -> Images:
    """[N, channels, H, W] -> [rows, N / rows, H, W, RGB]."""
    last = np.moveaxis(images, 1, -1)
    colour = np.repeat(last, 3, axis=-1) if last.shape[-1] == 1 else last
    return colour.reshape(rows, -1, *colour.shape[1:])


def real_images(run: dict[str, Any], store: Store, classes: int, columns: int) -> Images | None:
    """Returns the first training images of each class that the sheet shows; None if the dataset is not in memory."""
    from ear.data import ImageDataset, load_dataset

    try:
        config = evaluated_config(run, store)
        dataset = load_dataset(config.data)
    except UserError:
        return None
    if not isinstance(dataset, ImageDataset):
        return None
    images, labels = dataset.train.images.numpy(), dataset.train.labels.numpy()
    shown = [at * dataset.classes // classes for at in range(classes)]
    return np.concatenate([_rgb(images[labels == label][:columns], 1) for label in shown])
