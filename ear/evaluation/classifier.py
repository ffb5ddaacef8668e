"""The feature extractor for small images: a plain convnet trained on the dataset's own training split.

Inception was not trained on anything like 8x8 digits or shirts. So this network is trained once per dataset, always
from the same seed, and kept in the store. Its accuracy on held-out images is logged with every metric.
"""

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ear.data import ImageDataset, Split, to_unit_range
from ear.random import stream_generator

FEATURES = 64
WEIGHT_DECAY = 0.05
SEED = 0


@dataclass(frozen=True)
class ClassifierRecipe:
    """Architecture and training of a dataset's classifier, and the accuracy that it must reach."""

    blocks: tuple[tuple[int, ...], ...]  # channels of 3x3 convolutions; the resolution is halved between blocks
    epochs: int
    batch_size: int
    learning_rate: float  # peak of the one-cycle schedule
    minimum_accuracy: float  # on held-out images


RECIPES = {
    "digits": ClassifierRecipe(
        blocks=((32, 64), (FEATURES,)), epochs=60, batch_size=64, learning_rate=4e-3, minimum_accuracy=0.985
    ),
    "fashion_mnist": ClassifierRecipe(
        blocks=((16,), (32,), (FEATURES, FEATURES)), epochs=8, batch_size=64, learning_rate=6e-3, minimum_accuracy=0.9
    ),
}
"""Recipes by dataset name. Any change requires a new `RECIPE_VERSION`."""


class Classifier(nn.Module):
    """A convnet: uint8 images [N, C, H, W] -> features [N, 64] (average-pooled, as Inception's), logits [N, classes].

    It deliberately has no batch norm and no augmentation. Both raise accuracy by making features blind to differences
    within a class, which FID, precision and recall must measure (docs/LOG.md, 2026-11-23).
    """

    def __init__(self, blocks: tuple[tuple[int, ...], ...], channels: int, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for index, block in enumerate(blocks):
            if index > 0:
                layers.append(nn.MaxPool2d(2))
            for width in block:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.logits = nn.Linear(channels, classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features and logits of uint8 images."""
        features = self.features(to_unit_range(images))
        return features, cast(Tensor, self.logits(features))


def build_classifier(recipe: ClassifierRecipe, dataset: ImageDataset) -> Classifier:
    """Build the untrained classifier for a dataset, with weights drawn from the fixed seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)  # torch.nn's default initialisation draws from the global generator
        return Classifier(recipe.blocks, dataset.image_shape[0], dataset.classes)


def train_classifier(recipe: ClassifierRecipe, dataset: ImageDataset) -> Classifier:
    """Train a dataset's classifier deterministically: one thread, one seed, a one-cycle learning rate."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    classifier = build_classifier(recipe, dataset)
    images, labels = dataset.train.images, dataset.train.labels
    steps_per_epoch = len(labels) // recipe.batch_size
    optimizer = torch.optim.AdamW(classifier.parameters(), weight_decay=WEIGHT_DECAY, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, total_steps=recipe.epochs * steps_per_epoch
    )
    for epoch in range(recipe.epochs):
        order = torch.randperm(len(labels), generator=stream_generator(SEED, "classifier epoch", epoch))
        for batch in order[: steps_per_epoch * recipe.batch_size].view(-1, recipe.batch_size):
            loss = F.cross_entropy(classifier(images[batch])[1], labels[batch])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    torch.set_num_threads(threads)
    return classifier.eval()


@torch.inference_mode()
def accuracy(classifier: Classifier, split: Split, batch_size: int = 500) -> float:
    """Fraction of images that are classified correctly."""
    batches = zip(torch.split(split.images, batch_size), torch.split(split.labels, batch_size), strict=True)
    right = sum(int((classifier(images)[1].argmax(dim=1) == labels).sum()) for images, labels in batches)
    return right / len(split)
