"""The keys of results: hashes of everything that can influence them.

    training, stage i    configuration up to stage i, content of dataset and initial checkpoint, and the parent stage's
                         key, which covers all stages before
    extractor            its recipe and the dataset's content, or its weights
    reference            extractor and the real images' content
    evaluation           the last training stage, sampling, evaluation, reference

Keys are known before anything is computed, so that a plan can say which results exist already. Only values that can
change the result are hashed, and of these only the ones that differ from their default (`ear.config.hashed`).
"""

from functools import cached_property
from pathlib import Path
from typing import Any

from ear.config import RunConfig
from ear.config.hashed import EVALUATED, TRAINED, hashed_values
from ear.config.hashing import digest, file_digest
from ear.config.schema import ImageFolderData, KLTokenizerConfig
from ear.data.content import DatasetContent

RECIPE_VERSION = 1
"""Incremented whenever the same configuration starts to give other numbers (a golden loss or a golden default changes),
so that the store never returns results of old code."""

KEY_LENGTH = 32  # hex digits, 128 bits


class RunKeys:
    """The keys of a training and its evaluation.

    The keys of the extractor, reference and evaluation are computed on first use: hashing the content of a million
    real images means reading them once.
    """

    def __init__(self, stages: tuple[str, ...], config: RunConfig, dataset: DatasetContent | None) -> None:
        """`dataset` may be None for keys that are only compared with each other; they then leave out the reference."""
        self.stages = stages
        self._config = config
        self._dataset = dataset

    @property
    def training(self) -> str:
        """The key of the finished training: its last stage's."""
        return self.stages[-1]

    @cached_property
    def extractor(self) -> str:
        """The key of the feature extractor."""
        return extractor_key(self._config, self._dataset) if self._dataset else ""

    @cached_property
    def reference(self) -> str:
        """The key of the real images' features.

        Raises:
            UserError: the real images are missing.
        """
        return reference_key(self._config, self._dataset) if self._dataset else ""

    @cached_property
    def evaluation(self) -> str:
        """The key of the evaluation.

        Raises:
            UserError: the real images are missing.
        """
        return evaluation_key(self.training, self._config, self.reference)


def run_keys(config: RunConfig, dataset: DatasetContent) -> RunKeys:
    """The keys of a run. No result needs to exist for this."""
    return RunKeys(stage_keys(config, dataset.content_hash()), config, dataset)


def file_key(checkpoint: Path) -> str:
    """The key of a checkpoint that is identified only by its content."""
    return _key("file", file_digest(checkpoint))


def stage_keys(config: RunConfig, dataset_hash: str) -> tuple[str, ...]:
    """The key of each training stage. Configurations that are equal up to a stage share the keys up to it."""
    shared = hashed_values(config, TRAINED)
    stages = shared["training"].pop("stages")
    if config.training.initial_checkpoint is not None:
        shared["initial_checkpoint"] = file_digest(Path(config.training.initial_checkpoint))
    keys = [_key("training", shared, dataset_hash, stages[0])]
    for stage in stages[1:]:
        keys.append(_key("training", keys[-1], stage))
    return tuple(keys)


def reference_keys(config: RunConfig, dataset: DatasetContent) -> tuple[str, str]:
    """The keys of the extractor and of the real images' features. The training data is not needed."""
    return extractor_key(config, dataset), reference_key(config, dataset)


def extractor_key(config: RunConfig, dataset: DatasetContent) -> str:
    """The key of the feature extractor: of the dataset for its classifier, else of the weights' content."""
    settings = config.evaluation
    if settings.extractor == "classifier":
        return _key("extractor", settings.extractor, dataset.content_hash())
    return _key("extractor", settings.extractor, _content(settings.extractor_weights))


def reference_key(config: RunConfig, dataset: DatasetContent) -> str:
    """The key of the real images' features: from the content of the statistics file or of the images."""
    settings = config.evaluation
    real = _content(settings.statistics) if settings.statistics else dataset.split_hash(settings.reference)
    return _key("reference", extractor_key(config, dataset), real)


def require_known_reference(config: RunConfig, dataset: DatasetContent) -> None:
    """Check that the reference's key can be computed without reading the real images, for commands that only plan.

    Raises:
        UserError: the images have not been hashed yet, so they would have to be read.
    """
    if config.evaluation.statistics is None and isinstance(config.data, ImageFolderData):
        from ear.data.folder_dataset import FolderDataset

        assert isinstance(dataset, FolderDataset)
        dataset.require_read()


def evaluation_key(training: str, config: RunConfig, reference: str) -> str:
    """The key of evaluating the training with key `training` by this configuration."""
    decoder = _content(config.tokenizer.checkpoint) if isinstance(config.tokenizer, KLTokenizerConfig) else None
    # With fewer images than classes, earlier versions used only the first labels, under the key without this word.
    labels = ("spread",) if config.evaluation.images < config.data.classes else ()
    return _key("evaluation", training, hashed_values(config, EVALUATED), reference, decoder, *labels)


def _content(location: str | None) -> str | None:
    return None if location is None else file_digest(Path(location))


def _key(kind: str, *parts: Any) -> str:
    return digest([RECIPE_VERSION, kind, *parts])[:KEY_LENGTH]
