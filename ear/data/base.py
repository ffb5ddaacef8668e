"""What a dataset is to the rest of the code. Importing it imports no torch."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from ear.config.hashing import array_digest, digest

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Split:
    images: "Tensor"  # [N, channels, height, width] uint8, 0 to 255
    labels: "Tensor"  # [N] int64, 0 to classes - 1

    def __len__(self) -> int:
        return len(self.labels)

    def content_hash(self) -> str:
        return self._content_hash

    @cached_property
    def _content_hash(self) -> str:  # once: a sweep asks for every one of its runs
        return array_digest(self.images.numpy(), self.labels.numpy())


@dataclass(frozen=True)
class ImageDataset:
    name: str
    classes: int
    train: Split
    test: Split

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    def split(self, name: str) -> Split:
        return {"train": self.train, "test": self.test}[name]

    def split_hash(self, name: str) -> str:
        """Hash of the real images that evaluations compare with."""
        return self.split(name).content_hash()

    def split_size(self, name: str) -> int:
        return len(self.split(name))

    def image_batches(self, name: str, batch_size: int, workers: int, most: int | None = None) -> Iterator["Tensor"]:
        """The split's uint8 images [b, channels, H, W] in order, or `most` of them spread over all."""
        import torch

        images = self.split(name).images
        return iter(torch.split(images[evenly_spaced(len(images), most or len(images))], batch_size))

    def content_hash(self) -> str:
        """Hash of everything that training can see: names do not enter, contents do."""
        return digest([self.classes, self.train.content_hash(), self.test.content_hash()])


def evenly_spaced(count: int, most: int) -> "Tensor":
    """At most `most` of the numbers 0 to count - 1, all of them or spread over the whole range."""
    import torch

    return torch.arange(min(count, most)) * count // min(count, most)


def to_unit_range(images: "Tensor") -> "Tensor":
    """uint8 pixels 0 to 255 -> float32 in [-1, 1]."""
    return images.float() / 127.5 - 1


def to_uint8(images: "Tensor") -> "Tensor":
    """Images in [-1, 1] -> uint8 pixels, clamped and rounded. They have to be finite: a NaN would be black."""
    return ((images.float() + 1) * 127.5).round().clamp(0, 255).byte()
