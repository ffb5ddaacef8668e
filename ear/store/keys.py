"""The keys under which results are kept: hashes of everything that can influence them.

    training, stage i    configuration up to stage i, contents of dataset and initial checkpoint, and through the parent
                         all stages before
    extractor            its recipe and the dataset's content, or its weights
    reference            extractor and the real images' content
    evaluation           training's last stage, sampling, evaluation, reference

A key is known before anything is computed, so that a plan can say what is there already. Of a configuration only what
can change the result enters, and of that only what is not at its default (`ear.config.hashed`).
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
"""Raised whenever the same configuration starts to give other numbers (the golden losses or a golden default change): a
store must not serve results of the old code for the new."""

KEY_LENGTH = 32  # hex digits, 128 bits


class RunKeys:
    """Keys of a training and of its evaluation. What it is compared with is looked at only by who asks: to know a
    million images by their content, they have to be read, once."""

    def __init__(self, stages: tuple[str, ...], config: RunConfig, dataset: DatasetContent | None) -> None:
        """`dataset` is None for keys that are only to differ where a run's do."""
        self.stages = stages
        self._config = config
        self._dataset = dataset

    @property
    def training(self) -> str:
        """The key of the finished training: its last stage's."""
        return self.stages[-1]

    @cached_property
    def extractor(self) -> str:
        return extractor_key(self._config, self._dataset) if self._dataset else ""

    @cached_property
    def reference(self) -> str:
        """
        Raises:
            UserError: the real images are not there.
        """
        return reference_key(self._config, self._dataset) if self._dataset else ""

    @cached_property
    def evaluation(self) -> str:
        """
        Raises:
            UserError: as `reference`.
        """
        return evaluation_key(self.training, self._config, self.reference)


def run_keys(config: RunConfig, dataset: DatasetContent) -> RunKeys:
    """All keys of a run, none of which needs anything to be computed."""
    return RunKeys(stage_keys(config, dataset.content_hash()), config, dataset)


def file_key(checkpoint: Path) -> str:
    """The key of a checkpoint that is known by its content alone."""
    return _key("file", file_digest(checkpoint))


def stage_keys(config: RunConfig, dataset_hash: str) -> tuple[str, ...]:
    """A key for each stage; configurations that agree up to a stage share the keys up to it."""
    shared = hashed_values(config, TRAINED)
    stages = shared["training"].pop("stages")
    if config.training.initial_checkpoint is not None:
        shared["initial_checkpoint"] = file_digest(Path(config.training.initial_checkpoint))
    keys = [_key("training", shared, dataset_hash, stages[0])]
    for stage in stages[1:]:
        keys.append(_key("training", keys[-1], stage))
    return tuple(keys)


def reference_keys(config: RunConfig, dataset: DatasetContent) -> tuple[str, str]:
    """The keys of the extractor and of the real images' features in it; training data is not needed for either."""
    return extractor_key(config, dataset), reference_key(config, dataset)


def extractor_key(config: RunConfig, dataset: DatasetContent) -> str:
    settings = config.evaluation
    if settings.extractor == "classifier":
        return _key("extractor", settings.extractor, dataset.content_hash())
    return _key("extractor", settings.extractor, _content(settings.extractor_weights))


def reference_key(config: RunConfig, dataset: DatasetContent) -> str:
    """The key of the real images' features: of the statistics file, or of the content of the images."""
    settings = config.evaluation
    real = _content(settings.statistics) if settings.statistics else dataset.split_hash(settings.reference)
    return _key("reference", extractor_key(config, dataset), real)


def require_known_reference(config: RunConfig, dataset: DatasetContent) -> None:
    """For who only plans, and is not to read a million images for it.

    Raises:
        UserError: they would have to be read to know the reference's key.
    """
    if config.evaluation.statistics is None and isinstance(config.data, ImageFolderData):
        from ear.data.folder_dataset import FolderDataset

        assert isinstance(dataset, FolderDataset)
        dataset.require_read()


def evaluation_key(training: str, config: RunConfig, reference: str) -> str:
    """The key of evaluating the weights that `training` identifies by this configuration."""
    decoder = _content(config.tokenizer.checkpoint) if isinstance(config.tokenizer, KLTokenizerConfig) else None
    # Earlier versions gave so few images the first labels only, under the key without this word.
    labels = ("spread",) if config.evaluation.images < config.data.classes else ()
    return _key("evaluation", training, hashed_values(config, EVALUATED), reference, decoder, *labels)


def _content(location: str | None) -> str | None:
    return None if location is None else file_digest(Path(location))


def _key(kind: str, *parts: Any) -> str:
    return digest([RECIPE_VERSION, kind, *parts])[:KEY_LENGTH]
