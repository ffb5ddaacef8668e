"""An image folder as training and evaluation see it: cached latents, and the images that they were made from."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from ear.config.hashing import digest
from ear.config.schema import ImageFolderData
from ear.data.base import evenly_spaced
from ear.data.image_folder import CroppedImages, DecodedImage, ImageList, list_images
from ear.data.latents import LatentCache
from ear.errors import UserError


class FolderDataset:
    """Latents are opened on first use; the images themselves are needed only to be compared with."""

    def __init__(self, config: ImageFolderData) -> None:
        self.config = config
        self.name = "image_folder"
        self.classes = config.classes

    @cached_property
    def cache(self) -> LatentCache:
        """
        Raises:
            UserError: there is no complete cache, or it is not of the configured dataset.
        """
        if self.config.latents is None:
            raise UserError(
                "data.latents is not set: encode the images with `ear encode CONFIG --set data.path=IMAGES "
                "--set data.latents=CACHE`, then give the same data.latents to this command."
            )
        cache = LatentCache.open(Path(self.config.latents))
        cache.check(classes=self.config.classes, size=self.config.size, tokenizer_hash=None)
        if cache.images != self.config.images:
            raise UserError(
                f"data.images is {self.config.images}, but {self.config.latents} holds {cache.images}: "
                f"the length of an epoch depends on it; --set data.images={cache.images} if the cache is right."
            )
        return cache

    @cached_property
    def images(self) -> ImageList:
        """
        Raises:
            UserError: the folder of images is not set, missing or laid out otherwise.
        """
        if self.config.path is None:
            raise UserError(
                "evaluation.reference: real images are needed to compare with; name their folder with "
                "--set data.path=FOLDER, or give statistics of them with --set evaluation.statistics=FILE.npz."
            )
        return list_images(Path(self.config.path))

    def content_hash(self) -> str:
        """Hash of everything that training can see."""
        return self.cache.content_hash

    def split_hash(self, name: str) -> str:
        """Hash of the real images that evaluations compare with; an image folder has no split but `train`."""
        self._require_train(name)
        if self.config.latents is not None:
            return digest([self.config.size, list(self.cache.source_hashes())])
        # Reading every file to hash it would take hours on a cluster's disks: names and sizes stand for the content.
        sizes = [(self.images.folder / file).stat().st_size for file in self.images.files]
        return digest([self.config.size, self.images.names_hash, sizes])

    def split_size(self, name: str) -> int:
        self._require_train(name)
        return len(self.images)

    def image_batches(self, name: str, batch_size: int, workers: int, most: int | None = None) -> Iterator[Tensor]:
        """uint8 images [b, 3, size, size], cropped as they are encoded, in order, or `most` of them spread over all.

        Those that don't decode are left out.
        """
        self._require_train(name)
        wanted = evenly_spaced(len(self.images), most or len(self.images))
        cropped = Subset(CroppedImages(self.images, self.config.size), wanted.tolist())
        return iter(DataLoader(cropped, batch_size, num_workers=workers, collate_fn=_pixels))

    def _require_train(self, name: str) -> None:
        if name != "train":
            raise UserError(
                "evaluation.reference: an image folder has no test split; use train, or give real statistics "
                "with --set evaluation.statistics=FILE.npz."
            )


def _pixels(items: list[DecodedImage]) -> Tensor:
    return torch.stack([item.pixels for item in items if item.pixels is not None])
