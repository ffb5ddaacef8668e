"""In-memory datasets, and the conversion of pixels to and from [-1, 1]. Importing this module does not import torch."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from ear.config.hashing import array_digest, digest

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Split:
    """Images and labels of one split of a dataset."""

    images: "Tensor"  # [N, channels, height, width] uint8, 0 to 255
    labels: "Tensor"  # [N] int64, 0 to classes - 1

    def __len__(self) -> int:
        return len(self.labels)

    def content_hash(self) -> str:
        """Hash of images and labels."""
        return self._content_hash

    @cached_property
    def _content_hash(self) -> str:  # cached, since a sweep needs it for each of its runs
        return array_digest(self.images.numpy(), self.labels.numpy())


@dataclass(frozen=True)
class ImageDataset:
    """A dataset that fits in memory."""

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
        """The split `train` or `test`."""
        return {"train": self.train, "test": self.test}[name]

    def split_hash(self, name: str) -> str:
        """Hash of the real images of a split, which evaluations compare with."""
        return self.split(name).content_hash()

    def split_size(self, name: str) -> int:
        """Number of images in a split."""
        return len(self.split(name))

    def image_batches(self, name: str, batch_size: int, workers: int, most: int | None = None) -> Iterator["Tensor"]:
        """The uint8 images [b, channels, H, W] of a split in order, or `most` of them, evenly spaced."""
        import torch

        images = self.split(name).images
        return iter(torch.split(images[evenly_spaced(len(images), most or len(images))], batch_size))

    def content_hash(self) -> str:
        """Hash of everything that training can read: the content, not the dataset's name."""
        return digest([self.classes, self.train.content_hash(), self.test.content_hash()])


def evenly_spaced(count: int, most: int) -> "Tensor":
    """The numbers 0 to count - 1, or `most` of them, evenly spaced."""
    import torch

    return torch.arange(min(count, most)) * count // min(count, most)


def to_unit_range(images: "Tensor") -> "Tensor":
    """Convert uint8 pixels 0 to 255 to float32 in [-1, 1]."""
    return images.float() / 127.5 - 1


def to_uint8(images: "Tensor") -> "Tensor":
    """Convert images in [-1, 1] to uint8 pixels, rounded and clamped. They must be finite: NaN would become black."""
    return ((images.float() + 1) * 127.5).round().clamp(0, 255).byte()
