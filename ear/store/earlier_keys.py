"""The keys of store format 1, which hashed every field, including defaults, and no precision.

They are computed from the recorded values, not from the current schema, which has other fields.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ear.config.hashing import digest, file_digest

TRAINING = ("seed", "data", "tokenizer", "model", "scoring", "optimizer", "training")
SETTINGS = ("sampling", "evaluation")
LOCATIONS = {"path", "latents", "checkpoint", "initial_checkpoint", "extractor_weights", "statistics"}
RECIPE_VERSION = 1  # of all results of that format
KEY_LENGTH = 32


def earlier_stage_keys(values: Mapping[str, Any], dataset_hash: str) -> tuple[str, ...]:
    """The format 1 keys of the training stages of a resolved configuration.

    Raises:
        UserError: the initial checkpoint no longer exists.
    """
    shared = {section: without_locations(values[section]) for section in TRAINING}
    stages = shared["training"].pop("stages")
    if (initial := values["training"].get("initial_checkpoint")) is not None:
        shared["initial_checkpoint"] = file_digest(Path(initial))
    keys = [_key("training", shared, dataset_hash, stages[0])]
    for stage in stages[1:]:
        keys.append(_key("training", keys[-1], stage))
    return tuple(keys)


def earlier_evaluation_key(training: str, values: Mapping[str, Any], reference: str) -> str:
    """The format 1 key of an evaluation.

    Raises:
        UserError: the autoencoder no longer exists.
    """
    checkpoint = values["tokenizer"].get("checkpoint") if values["tokenizer"]["name"] == "kl" else None
    decoder = None if checkpoint is None else file_digest(Path(checkpoint))
    settings = {section: without_locations(values[section]) for section in SETTINGS}
    return _key("evaluation", training, settings, reference, decoder)


def without_locations(section: Any) -> Any:
    """The values of a section without file locations, which format 1 did not hash."""
    if not isinstance(section, Mapping):
        return section
    return {name: value for name, value in section.items() if name not in LOCATIONS}


def _key(kind: str, *parts: Any) -> str:
    return digest([RECIPE_VERSION, kind, *parts])[:KEY_LENGTH]
