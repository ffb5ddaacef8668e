"""The feature extractor for digits: a small convnet trained on their training split.

Inception knows nothing of 8x8 digits, so this network is trained once for a dataset, always from the same seed, and
kept in the store; its accuracy on held-out digits is logged with every metric that it gives.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ear.data import ImageDataset, Split, to_unit_range
from ear.random import stream_generator

FEATURES = 64
EPOCHS = 60
BATCH_SIZE = 64
LEARNING_RATE = 4e-3
WEIGHT_DECAY = 0.05
SEED = 0


class DigitsClassifier(nn.Module):
    """uint8 images [N, 1, 8, 8] -> features [N, 64] (average-pooled, as Inception's) and logits [N, classes].

    No batch norm and no augmentation, on purpose: both raise accuracy by making features blind to how images of one
    class differ, which is what FID, precision and recall are to see (docs/LOG.md, 2026-11-23).
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(64, FEATURES, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.logits = nn.Linear(FEATURES, classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(to_unit_range(images))
        return features, cast(Tensor, self.logits(features))


def train_digits_classifier(dataset: ImageDataset) -> DigitsClassifier:
    """Deterministic: one thread, one seed, a one-cycle learning rate."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)  # torch.nn's default initialisation draws from the global generator
        classifier = DigitsClassifier(dataset.classes)
    images, labels = dataset.train.images, dataset.train.labels
    steps_per_epoch = len(labels) // BATCH_SIZE
    optimizer = torch.optim.AdamW(classifier.parameters(), weight_decay=WEIGHT_DECAY, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=EPOCHS * steps_per_epoch)
    for epoch in range(EPOCHS):
        order = torch.randperm(len(labels), generator=stream_generator(SEED, "classifier epoch", epoch))
        for batch in order[: steps_per_epoch * BATCH_SIZE].view(-1, BATCH_SIZE):
            loss = F.cross_entropy(classifier(images[batch])[1], labels[batch])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    torch.set_num_threads(threads)
    return classifier.eval()


@torch.inference_mode()
def accuracy(classifier: DigitsClassifier, split: Split) -> float:
    """Share of images whose class is the likeliest."""
    logits: Tensor = classifier(split.images)[1]
    return (logits.argmax(dim=1) == split.labels).float().mean().item()
