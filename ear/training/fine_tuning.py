"""Initial weights from a checkpoint, for fine-tuning."""

from pathlib import Path
from typing import Any

from torch import nn

from ear.config import RunConfig
from ear.training.checkpoint import load_metadata, load_part, load_state, stated_config

CLASSES = "trunk.class_embedding.weight"  # [classes, width]


def load_initial_weights(model: nn.Module, path: Path, config: RunConfig, tokenizer_hash: str) -> list[str]:
    """Load a checkpoint's EMA weights into a model with random weights (`build_model`).

    If the checkpoint has another number of classes, the model keeps its own class embeddings, which were drawn by the
    run's seed, and takes all other weights, including the null class, from the checkpoint.

    Args:
        tokenizer_hash: of the autoencoder of the data's latents; "" if there is none or it is unknown.

    Returns:
        Sentences that say what differs from the checkpoint's training.

    Raises:
        UserError: the file is not a checkpoint; or other weights are missing, unexpected, of another shape or not
            finite, all of which the message names.
    """
    metadata = load_metadata(path)
    notes = _other_tokens(path, metadata, config, tokenizer_hash)
    found, own = load_part(path, "ema"), model.state_dict()[CLASSES]
    theirs = found.get(CLASSES)
    if theirs is not None and theirs.shape[1:] == own.shape[1:] and len(theirs) != len(own):
        found[CLASSES] = own
        notes.append(
            f"{path} has {len(theirs)} classes, the data {len(own)}: the class embeddings ({CLASSES}) are drawn from "
            f"normal(0, 0.02) with seed {config.seed}; all other weights come from the checkpoint."
        )
    load_state(model, found, f"{path}, ema,")
    return notes


def _other_tokens(path: Path, metadata: dict[str, str], config: RunConfig, tokenizer_hash: str) -> list[str]:
    stated = stated_config(path, metadata).get("tokenizer")
    before: dict[str, Any] = stated if isinstance(stated, dict) else {}
    now = config.tokenizer.model_dump(mode="json")
    differing = [
        f"tokenizer.{name} {before[name]} (here {now[name]})"
        for name in sorted(before.keys() & now.keys() - {"checkpoint"})  # a file location
        if before[name] != now[name]
    ]
    if metadata.get("tokenizer_hash") and tokenizer_hash and metadata["tokenizer_hash"] != tokenizer_hash:
        differing.append("another autoencoder's latents")
    if not differing:
        return []
    return [f"{path} was trained on other tokens: {', '.join(differing)}."]
