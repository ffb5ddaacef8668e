"""What an evaluation found, as it is published in the store."""

import json
from dataclasses import dataclass
from typing import Any

from ear.errors import UserError
from ear.store import Store
from ear.store.store import REMEDY
from ear.store.verify import require_as_published


@dataclass(frozen=True)
class Evaluation:
    """Metrics, never without what they were measured with."""

    metrics: dict[str, float]  # fid, is, precision, recall, as far as they could be measured; with _null without labels
    extractor: str
    extractor_accuracy: float | None  # on held-out images, of an extractor trained on the dataset
    extractor_hash: str
    reference: str  # dataset and split, or the statistics file's name
    reference_images: int | None  # None where the file does not tell
    images: int  # generated with labels
    null_images: int  # generated without
    seconds: float  # of sampling and measuring
    reference_hash: str = ""  # SHA-256 of the statistics file, or of the images; "" of results of earlier versions


def load_evaluation(key: str, store: Store) -> Evaluation:
    """A published evaluation.

    Raises:
        UserError: it is damaged.
    """
    path = store.path(key) / "evaluation.json"
    require_as_published(path)
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return Evaluation(**values)
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}): {REMEDY}") from error
