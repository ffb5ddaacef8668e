"""An image folder as a dataset: cached latents for training, and the images themselves for evaluation."""

import warnings
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ear.config.hashing import digest
from ear.config.schema import ImageFolderData
from ear.data.base import evenly_spaced
from ear.data.decode import RemarkCounter, crop_name, pixel_rule_name
from ear.data.file_hashes import Hashes, file_hashes, hexadecimal, unread
from ear.data.image_folder import CroppedImages, DecodedBatch, DecodedImage, ImageList, collate, list_images
from ear.data.latents import LatentCache
from ear.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.utils.data import Dataset


class FolderDataset:
    """An image folder, trained on as cached latents.

    The cache and the images are opened on first use; the images are needed only for evaluations that compare with
    them.
    """

    def __init__(self, config: ImageFolderData) -> None:
        self.config = config
        self.name = "image_folder"
        self.classes = config.classes
        self._hashes: Hashes | None = None  # of the images' files, once they have been computed

    @cached_property
    def cache(self) -> LatentCache:
        """The cache of latents.

        Raises:
            UserError: there is no complete cache, or it does not match the configuration.
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
                f"data.images is {self.config.images}, but {self.config.latents} has {cache.images} images, which "
                f"changes the length of an epoch: --set data.images={cache.images} if the cache is right."
            )
        if cache.index.crop != crop_name(self.config.exif_orientation):
            raise UserError(
                f"data.exif_orientation is {str(self.config.exif_orientation).lower()}, but {self.config.latents} was "
                f"encoded with the crop {cache.index.crop}: "
                f"--set data.exif_orientation={str(not self.config.exif_orientation).lower()} if the cache is right."
            )
        if lost := [name for name, images in cache.index.class_images.items() if not images]:
            warnings.warn(
                f"{self.config.latents} has no images of {len(lost)} of its classes (the first: {lost[0]!r}): images "
                "sampled with their labels are meaningless.",
                stacklevel=2,
            )
        return cache

    @cached_property
    def images(self) -> ImageList:
        """The list of images.

        Raises:
            UserError: the image folder is not set, missing or has another layout.
        """
        if self.config.path is None:
            raise UserError(
                "evaluation.reference: real images are needed to compare with: give their folder with "
                "--set data.path=FOLDER, or their statistics with --set evaluation.statistics=FILE.npz."
            )
        return list_images(Path(self.config.path))

    def content_hash(self) -> str:
        """Hash of everything that training can read."""
        return self.cache.content_hash

    def split_hash(self, name: str) -> str:
        """Hash of the real images, which evaluations compare with. An image folder has only the split `train`."""
        self._require_train(name)
        return self._reference_hash

    @cached_property
    def _reference_hash(self) -> str:
        """Hash of the content of the files under `data.path`; if it is not set, of those the cache was made from."""
        if self.config.path is None and self.config.latents is not None:
            hashes = list(self.cache.source_hashes())
        else:
            self._require_path()
            self._hashes = file_hashes(self.images.folder, self.images.files)
            hashes = [hexadecimal(row) for row in self._hashes]
        return digest([pixel_rule_name(self.config.exif_orientation), self.config.size, hashes])

    def require_read(self) -> None:
        """Check that `split_hash` need not read any file, for commands that only plan.

        Raises:
            UserError: it would have to.
        """
        if self.config.path is None and self.config.latents is not None:
            return
        self._require_path()
        if count := unread(self.images.folder, self.images.files):
            raise UserError(
                f"{count:,} of the images under {self.config.path} have not been hashed on this machine, which the "
                "keys of evaluations need; commands that evaluate do that once."
            )

    def _require_path(self) -> None:
        """Check that the image folder exists, if one is set beside a cache.

        Raises:
            UserError: it does not exist.
        """
        if self.config.latents is not None and self.config.path is not None and not Path(self.config.path).is_dir():
            raise UserError(
                f"data.path: the image folder {self.config.path} to compare with does not exist here: set its path. "
                "Or, if data.latents was made from the same images and all of them could be decoded, --set "
                "data.path=null, which finds the earlier evaluations against them."
            )

    def split_size(self, name: str) -> int:
        """Number of images in a split, including those that can't be decoded."""
        self._require_train(name)
        return len(self.images)

    def image_batches(self, name: str, batch_size: int, workers: int, most: int | None = None) -> "Iterator[Tensor]":
        """The uint8 images [b, 3, size, size] in order, cropped as for encoding, or `most` of them, evenly spaced.

        Images that can't be decoded are skipped. At the end, warnings name skipped images and remarks on others.

        Raises:
            UserError: no image can be decoded, or one has changed since `split_hash` was computed.
        """
        from torch.utils.data import DataLoader, Subset

        self._require_train(name)
        wanted = evenly_spaced(len(self.images), most or len(self.images))
        images = CroppedImages(self.images, self.config.size, self.config.exif_orientation)
        cropped = cast("Dataset[DecodedImage]", images)  # lacks torch's base class, so image_folder needs no torch
        loader = DataLoader(Subset(cropped, wanted.tolist()), batch_size, num_workers=workers, collate_fn=collate)
        return self._decodable(loader)

    def _decodable(self, batches: Iterable[DecodedBatch]) -> "Iterator[Tensor]":
        files, remarks = self.images.files, RemarkCounter()
        skipped: dict[str, str] = {}
        used = 0
        for batch in batches:
            for item in (*batch.decoded, *batch.skipped):
                self._require_unchanged(item)
            skipped |= {files[item.index]: item.error for item in batch.skipped}
            for item in batch.decoded:
                for remark in item.remarks:
                    remarks.add(remark, files[item.index])
            if batch.decoded:
                used += len(batch.decoded)
                yield batch.pixels
        self._report(used, skipped, remarks)

    def _require_unchanged(self, item: DecodedImage) -> None:
        """Check that an image was decoded from the bytes that were hashed.

        Raises:
            UserError: it was not, so results would be published under the key of the former image.
        """
        if self._hashes is None or item.source_hash == hexadecimal(self._hashes[item.index]):
            return
        folder, file = self.images.folder, self.images.files[item.index]
        self._hashes = None  # so that this process can compute them again
        for name in ("images", "_reference_hash"):
            self.__dict__.pop(name, None)
        raise UserError(f"{folder / file} changed during the evaluation: run the same command again.")

    def _report(self, used: int, skipped: dict[str, str], remarks: RemarkCounter) -> None:
        folder = self.images.folder
        first = next((f"{file}: {reason}" for file, reason in skipped.items()), "")
        if not used:
            raise UserError(
                f"None of {len(skipped)} images of {folder} can be decoded ({first}), so there is nothing to compare "
                "with: check data.path."
            )
        sentences = [*self.images.left_out, *(f"{folder}: {sentence}" for sentence in remarks.sentences())]
        if skipped:
            sentences.append(
                f"{folder}: {len(skipped):,} of {len(skipped) + used:,} images can't be decoded and are skipped "
                f"(the first: {first})."
            )
        for sentence in sentences:
            warnings.warn(sentence, stacklevel=3)

    def _require_train(self, name: str) -> None:
        if name != "train":
            raise UserError(
                "evaluation.reference: an image folder has no test split; use train, or give statistics of real images "
                "with --set evaluation.statistics=FILE.npz."
            )
