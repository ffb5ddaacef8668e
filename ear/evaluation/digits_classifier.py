"""The feature extractor for digits: a small convnet trained on their training split.

Inception knows nothing of 8x8 digits. This network is trained once for a dataset, always from the same seed, and kept
in the store; its accuracy on held-out digits is logged with every metric that it gives.
"""

from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ear.data import ImageDataset, Split, to_unit_range
from ear.random import stream_generator

FEATURES = 64
EPOCHS = 60
BATCH_SIZE = 64
LEARNING_RATE = 3e-3
SEED = 0


class DigitsClassifier(nn.Module):
    """uint8 images [N, 1, 8, 8] -> features [N, 64] (after the ReLU) and logits [N, classes]."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
        )
        self.features = nn.Linear(64 * 2 * 2, FEATURES)
        self.logits = nn.Linear(FEATURES, classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = F.relu(self.features(self.convolutions(to_unit_range(images))))
        return features, cast(Tensor, self.logits(features))


def train_digits_classifier(
    dataset: ImageDataset, on_epoch: Callable[[int], None] = lambda epoch: None
) -> DigitsClassifier:
    """Deterministic: one thread, one seed, shifts by up to a pixel as augmentation, a one-cycle learning rate."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)  # torch.nn's default initialisation draws from the global generator
        classifier = DigitsClassifier(dataset.classes)
    images, labels = dataset.train.images, dataset.train.labels
    steps = EPOCHS * (len(labels) // BATCH_SIZE)
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=LEARNING_RATE, weight_decay=0.05, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    for epoch in range(EPOCHS):
        generator = stream_generator(SEED, "classifier epoch", epoch)
        order = torch.randperm(len(labels), generator=generator)
        for batch in order[: steps // EPOCHS * BATCH_SIZE].split(BATCH_SIZE):
            logits = classifier(shift_randomly(images[batch], generator))[1]
            loss = F.cross_entropy(logits, labels[batch])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        on_epoch(epoch)
    torch.set_num_threads(threads)
    return classifier.eval()


def shift_randomly(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image [N, 1, H, W] moved by -1, 0 or 1 pixel in both directions, black coming in."""
    height, width = images.shape[2:]
    padded = F.pad(images, (1, 1, 1, 1))
    rows, columns = torch.randint(0, 3, (2, len(images), 1), generator=generator)
    row_index = (rows + torch.arange(height)).view(-1, 1, height, 1).expand(-1, 1, -1, width + 2)
    column_index = (columns + torch.arange(width)).view(-1, 1, 1, width).expand(-1, 1, height, -1)
    return padded.gather(2, row_index).gather(3, column_index)


@torch.inference_mode()
def accuracy(classifier: DigitsClassifier, split: Split) -> float:
    """Share of images whose class is the likeliest."""
    return (classifier(split.images)[1].argmax(dim=1) == split.labels).float().mean().item()
