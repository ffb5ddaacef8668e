"""The keys under which results are kept: hashes of everything that can influence them.

    training, stage i    configuration up to stage i, the dataset's content, and through the parent all stages before
    extractor            its recipe and the dataset's content
    reference            extractor and the real images' content
    evaluation           training's last stage, sampling, evaluation, reference

A key is known before anything is computed, so that a plan can say what is there already.
"""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ear.config import Reach, RunConfig
from ear.config.hashing import digest
from ear.data import ImageDataset

RECIPE_VERSION = 1
"""Raised whenever the same configuration starts to give other numbers (the golden losses change): a store must not
serve results of the old code for the new."""

KEY_LENGTH = 32  # hex digits, 128 bits


@dataclass(frozen=True)
class RunKeys:
    stages: tuple[str, ...]
    extractor: str
    reference: str
    evaluation: str

    @property
    def training(self) -> str:
        """The key of the finished training: its last stage's."""
        return self.stages[-1]


def run_keys(config: RunConfig, dataset: ImageDataset) -> RunKeys:
    """All keys of a run, none of which needs anything to be computed."""
    stages = stage_keys(config, dataset.content_hash())
    extractor = _key("extractor", config.evaluation.extractor, dataset.content_hash())
    reference = _key("reference", extractor, dataset.split(config.evaluation.reference).content_hash())
    evaluation = evaluation_key(stages[-1], config, reference)
    return RunKeys(stages, extractor, reference, evaluation)


def checkpoint_keys(config: RunConfig, dataset: ImageDataset, checkpoint: Path) -> RunKeys:
    """The keys under which a checkpoint file is evaluated.

    A published training counts as what its configuration says; any other file as its content, so that a changed file
    never meets the old one's metrics.
    """
    keys = run_keys(config, dataset)
    if checkpoint.parent.name in keys.stages:
        training = checkpoint.parent.name
    else:
        with checkpoint.open("rb") as file:
            training = _key("file", hashlib.file_digest(file, "sha256").hexdigest())
    return replace(keys, stages=(training,), evaluation=evaluation_key(training, config, keys.reference))


def stage_keys(config: RunConfig, dataset_hash: str) -> tuple[str, ...]:
    """A key for each stage; configurations that agree up to a stage share the keys up to it."""
    shared = config.part(Reach.TRAINING)
    stages = shared["training"].pop("stages")
    keys = [_key("training", shared, dataset_hash, stages[0])]
    for stage in stages[1:]:
        keys.append(_key("training", keys[-1], stage))
    return tuple(keys)


def evaluation_key(training: str, config: RunConfig, reference: str) -> str:
    """The key of evaluating the weights that `training` identifies by this configuration."""
    return _key("evaluation", training, config.part(Reach.EVALUATION), reference)


def _key(kind: str, *parts: Any) -> str:
    return digest([RECIPE_VERSION, kind, *parts])[:KEY_LENGTH]
