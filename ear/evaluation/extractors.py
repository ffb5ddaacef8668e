"""Feature extractors by name.

An extractor takes uint8 images [N, channels, H, W] and returns (features [N, F], logits [N, K]); FID, precision and
recall compare features, IS uses the softmax of the logits.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ear.config.hashing import array_digest
from ear.data import ImageDataset
from ear.errors import UserError
from ear.evaluation.digits_classifier import DigitsClassifier, accuracy, train_digits_classifier
from ear.files import write_json
from ear.store import Store

MINIMUM_ACCURACY = 0.985


@dataclass(frozen=True)
class Features:
    features: Tensor  # [N, F]
    logits: Tensor  # [N, K]

    def __len__(self) -> int:
        return len(self.features)


@dataclass(frozen=True)
class Extractor:
    name: str
    network: nn.Module
    accuracy: float  # on held-out images
    weights_hash: str  # values of two extractors of one name and different weights can't be compared

    @torch.inference_mode()
    def extract(self, images: Tensor, batch_size: int = 500) -> Features:
        """Features of uint8 images [N, channels, H, W]."""
        outputs = [self.network(batch) for batch in torch.split(images, batch_size)]
        features, logits = (torch.cat(column) for column in zip(*outputs, strict=True))
        return Features(features, logits)


def load_extractor(name: str, key: str, dataset: ImageDataset, store: Store) -> Extractor:
    """The extractor of this name, trained now if the store does not hold it under `key`."""
    folder = store.get_or_create(key, "extractor", lambda temporary: _build_digits_classifier(temporary, dataset))
    return _load_digits_classifier(name, folder, dataset.classes)


def _build_digits_classifier(folder: Path, dataset: ImageDataset) -> None:
    classifier = train_digits_classifier(dataset)
    measured = accuracy(classifier, dataset.test)
    assert measured >= MINIMUM_ACCURACY, f"the digits classifier reaches only {measured:.3f} on held-out digits"
    save_file(classifier.state_dict(), folder / "weights.safetensors")
    write_json(folder / "extractor.json", {"accuracy": round(measured, 4)})


def _load_digits_classifier(name: str, folder: Path, classes: int) -> Extractor:
    try:
        state = load_file(folder / "weights.safetensors")
        measured = json.loads((folder / "extractor.json").read_text(encoding="utf-8"))["accuracy"]
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise UserError(
            f"The extractor in {folder} is damaged ({error}): delete the folder, it is made anew."
        ) from error
    classifier = DigitsClassifier(classes)
    classifier.load_state_dict(state)
    weights_hash = array_digest(*(state[weight].numpy() for weight in sorted(state)))
    return Extractor(name, classifier.eval(), measured, weights_hash[:16])
