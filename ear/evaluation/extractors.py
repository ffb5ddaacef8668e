"""Feature extractors by name.

FID, precision and recall compare features; IS uses the softmax of the logits.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ear.config.hashing import array_digest
from ear.config.schema import EvaluationConfig
from ear.data import Dataset, ImageDataset
from ear.errors import UserError
from ear.evaluation.classifier import RECIPES, ClassifierRecipe, accuracy, build_classifier, train_classifier
from ear.evaluation.fidelity_networks import load_fidelity_network
from ear.files.writing import write_json
from ear.store import Store
from ear.store.store import NO_HASHES, REMEDY
from ear.store.verify import require_as_published

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Features:
    """The output of a feature extractor for N images."""

    features: Tensor  # [N, F]
    logits: Tensor | None  # [N, K]; None if the network has no classes

    def __len__(self) -> int:
        return len(self.features)


@dataclass(frozen=True)
class Extractor:
    """A feature extractor with its weights."""

    name: str
    network: nn.Module  # uint8 images [N, channels, H, W] -> features [N, F] and logits [N, K] or None
    device: torch.device
    accuracy: float | None  # on held-out images, for a network trained on the dataset
    weights_hash: str  # metrics of extractors with the same name but different weights can't be compared
    image_shape: tuple[int, int, int] | None = None  # required (channels, H, W); None: RGB of any size

    @property
    def feature_count(self) -> int:
        """The number F of features per image."""
        return self.extract(torch.zeros(1, *(self.image_shape or (3, 64, 64)), dtype=torch.uint8)).features.shape[1]

    @torch.inference_mode()
    def extract(self, images: Tensor, batch_size: int = 500) -> Features:
        """Features of uint8 images [N, channels, H, W], on the CPU.

        Raises:
            UserError: the features are not finite, because the weights are damaged.
        """
        outputs = [self.network(batch.to(self.device)) for batch in torch.split(images, batch_size)]
        features = torch.cat([features for features, _ in outputs]).cpu()
        if not features.isfinite().all():
            raise UserError(
                f"Features of {self.name} are NaN or infinite: its weights are damaged. Download the file of "
                "evaluation.extractor_weights again; if they are in the store, run `ear store verify`."
            )
        if outputs[0][1] is None:
            return Features(features, None)
        return Features(features, torch.cat([logits for _, logits in outputs]).cpu())


def load_extractor(
    config: EvaluationConfig, key: str, dataset: Dataset, store: Store, device: torch.device = CPU
) -> Extractor:
    """Load the configured extractor. A classifier of the dataset is trained if the store does not have it under `key`.

    Raises:
        UserError: there is no such extractor for this dataset, or its weights are missing or damaged.
    """
    if config.extractor != "classifier":
        network = load_fidelity_network(config)
        return Extractor(config.extractor, network.to(device), device, None, network.weights_hash()[:16])
    if not isinstance(dataset, ImageDataset) or dataset.name not in RECIPES:
        raise UserError(
            f"evaluation.extractor: there is a classifier for {' and '.join(RECIPES)}, not for {dataset.name}; use one "
            "of torch-fidelity's extractors, for example inception-v3-compat."
        )
    recipe = RECIPES[dataset.name]
    folder = store.get_or_create(key, "extractor", lambda temporary: _make_classifier(temporary, recipe, dataset))
    return _load_classifier(folder, recipe, dataset, device)


def _make_classifier(folder: Path, recipe: ClassifierRecipe, dataset: ImageDataset) -> None:
    classifier = train_classifier(recipe, dataset)
    measured = accuracy(classifier, dataset.test)
    assert measured >= recipe.minimum_accuracy, (
        f"the classifier of {dataset.name} reaches only {measured:.3f} on held-out images"
    )
    save_file(classifier.state_dict(), folder / "weights.safetensors")
    write_json(folder / "extractor.json", {"accuracy": round(measured, 4)})


def _load_classifier(folder: Path, recipe: ClassifierRecipe, dataset: ImageDataset, device: torch.device) -> Extractor:
    for name in ("weights.safetensors", "extractor.json"):
        require_as_published(folder / name)
    try:
        state = load_file(folder / "weights.safetensors")
        measured = json.loads((folder / "extractor.json").read_text(encoding="utf-8"))["accuracy"]
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise UserError(f"The extractor in {folder} is damaged ({error}): {REMEDY} {NO_HASHES}") from error
    classifier = build_classifier(recipe, dataset)
    classifier.load_state_dict(state)
    weights_hash = array_digest(*(state[weight].numpy() for weight in sorted(state)))
    return Extractor(
        f"{dataset.name}-classifier",
        classifier.eval().to(device),
        device,
        measured,
        weights_hash[:16],
        dataset.image_shape,
    )
