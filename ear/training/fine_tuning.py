"""Weights that a training starts from instead of random ones."""

from pathlib import Path
from typing import Any

from torch import nn

from ear.config import RunConfig
from ear.training.checkpoint import load_metadata, load_part, load_state, stated_config

CLASSES = "trunk.class_embedding.weight"  # [classes, width]


def load_initial_weights(model: nn.Module, path: Path, config: RunConfig, tokenizer_hash: str) -> list[str]:
    """Loads a checkpoint's averaged weights into a model that has its own random ones (`build_model`).

    From a checkpoint of another number of classes it takes all but the class embeddings: of these the model keeps its
    own, which the run's seed gives. The null class is the checkpoint's.

    Args:
        tokenizer_hash: of the autoencoder behind the data's latents; "" where there is none, or it is unknown.

    Returns:
        What differs from the checkpoint's own training, in sentences.

    Raises:
        UserError: it is no checkpoint, or naming every other weight that is missing, unexpected, of another size or not
            finite.
    """
    metadata = load_metadata(path)
    notes = _other_tokens(path, metadata, config, tokenizer_hash)
    found, own = load_part(path, "ema"), model.state_dict()[CLASSES]
    theirs = found.get(CLASSES)
    if theirs is not None and theirs.shape[1:] == own.shape[1:] and len(theirs) != len(own):
        found[CLASSES] = own
        notes.append(
            f"{path} has {len(theirs)} classes and the data {len(own)}: the class embeddings ({CLASSES}) start anew, "
            f"from normal(0, 0.02) by seed {config.seed}; every other weight is the checkpoint's."
        )
    load_state(model, found, f"{path}, ema,")
    return notes


def _other_tokens(path: Path, metadata: dict[str, str], config: RunConfig, tokenizer_hash: str) -> list[str]:
    stated = stated_config(path, metadata).get("tokenizer")
    before: dict[str, Any] = stated if isinstance(stated, dict) else {}
    now = config.tokenizer.model_dump(mode="json")
    differing = [
        f"tokenizer.{name} {before[name]} (here {now[name]})"
        for name in sorted(before.keys() & now.keys() - {"checkpoint"})  # where it lies
        if before[name] != now[name]
    ]
    if metadata.get("tokenizer_hash") and tokenizer_hash and metadata["tokenizer_hash"] != tokenizer_hash:
        differing.append("another autoencoder's latents")
    if not differing:
        return []
    return [f"{path} was trained on other tokens than these: {', '.join(differing)}."]
