"""The result of an evaluation, as it is published in the store."""

import json
from dataclasses import dataclass
from typing import Any

from ear.errors import UserError
from ear.store import Store
from ear.store.store import REMEDY, Entry
from ear.store.verify import require_intact


@dataclass(frozen=True)
class Evaluation:
    """The metrics of a checkpoint, with the extractor, reference and numbers of images that they depend on."""

    metrics: dict[str, float]  # fid, is, precision, recall, if measurable; with the suffix _null without labels
    extractor: str
    extractor_accuracy: float | None  # on held-out images, for an extractor trained on the dataset
    extractor_hash: str
    reference: str  # dataset and split, or the statistics file's name
    reference_images: int | None  # None if the statistics file does not say
    images: int  # generated with labels
    null_images: int  # generated without labels
    seconds: float  # of sampling and measuring
    reference_hash: str = ""  # SHA-256 of the statistics file or the images; "" in results of earlier versions


def load_evaluation(key: str, store: Store, entry: Entry | None = None) -> Evaluation:
    """Load a published evaluation.

    Args:
        entry: its entry, if the caller has read it already.

    Raises:
        UserError: it is damaged.
    """
    path = store.path(key) / "evaluation.json"
    require_intact(path, entry or store.entry(key))
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return Evaluation(**values)
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}): {REMEDY}") from error
