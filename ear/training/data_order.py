"""The order of training images: one random permutation per epoch, back to back."""

import torch
from torch import Tensor

from ear.random import stream_generator


class EpochOrder:
    """Splits an endless sequence of shuffled epochs into batches.

    Batch s of size B is entries s B to (s + 1) B of the sequence, so every epoch contains every image once.
    """

    def __init__(self, images: int, batch_size: int, seed: int) -> None:
        self.images = images
        self.batch_size = batch_size
        self.seed = seed
        self._epochs: dict[int, Tensor] = {}

    def batch(self, step: int) -> Tensor:
        """Image indices [B] of step `step` (from 0). They depend only on the step and the seed."""
        start = step * self.batch_size
        stop = start + self.batch_size
        first_epoch, last_epoch = start // self.images, (stop - 1) // self.images
        self._epochs = {
            epoch: self._epochs[epoch] if epoch in self._epochs else self._permutation(epoch)
            for epoch in range(first_epoch, last_epoch + 1)
        }
        parts = [
            order[max(start - epoch * self.images, 0) : stop - epoch * self.images]
            for epoch, order in self._epochs.items()
        ]
        return torch.cat(parts)

    def _permutation(self, epoch: int) -> Tensor:
        return torch.randperm(self.images, generator=stream_generator(self.seed, "epoch", epoch))
