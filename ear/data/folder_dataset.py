"""An image folder as training and evaluation see it: cached latents, and the images that they were made from."""

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
    """Latents are opened on first use; the images themselves are needed only to be compared with."""

    def __init__(self, config: ImageFolderData) -> None:
        self.config = config
        self.name = "image_folder"
        self.classes = config.classes
        self._hashes: Hashes | None = None  # of the images, once they are known by their content

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
        if cache.index.crop != crop_name(self.config.exif_orientation):
            raise UserError(
                f"data.exif_orientation is {str(self.config.exif_orientation).lower()}, but {self.config.latents} was "
                f"encoded with the crop {cache.index.crop}: "
                f"--set data.exif_orientation={str(not self.config.exif_orientation).lower()} if the cache is right."
            )
        if lost := [name for name, images in cache.index.class_images.items() if not images]:
            warnings.warn(
                f"{self.config.latents} holds no image of {len(lost)} of its classes (the first: {lost[0]!r}): what is "
                "sampled with their labels means nothing.",
                stacklevel=2,
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
        return self._reference_hash

    @cached_property
    def _reference_hash(self) -> str:
        """Of the content of the files under `data.path`; without one, of those that the cache was made from."""
        if self.config.path is None and self.config.latents is not None:
            hashes = list(self.cache.source_hashes())
        else:
            self._require_path()
            self._hashes = file_hashes(self.images.folder, self.images.files)
            hashes = [hexadecimal(row) for row in self._hashes]
        return digest([pixel_rule_name(self.config.exif_orientation), self.config.size, hashes])

    def require_read(self) -> None:
        """For who only looks, and is not to read a million files for it.

        Raises:
            UserError: `split_hash` would have to.
        """
        if self.config.path is None and self.config.latents is not None:
            return
        self._require_path()
        if count := unread(self.images.folder, self.images.files):
            raise UserError(
                f"{count:,} of the images under {self.config.path} were never read here, by whose content evaluations "
                "are known; the commands that evaluate read them, once."
            )

    def _require_path(self) -> None:
        """
        Raises:
            UserError: there is no folder of images, but what was made from one.
        """
        if self.config.latents is not None and self.config.path is not None and not Path(self.config.path).is_dir():
            raise UserError(
                f"data.path: there is no folder {self.config.path} here, whose images are to be compared with: give "
                "its place; or, if data.latents was made from the same images and all of them could be decoded, --set "
                "data.path=null, which finds what was compared with them before."
            )

    def split_size(self, name: str) -> int:
        self._require_train(name)
        return len(self.images)

    def image_batches(self, name: str, batch_size: int, workers: int, most: int | None = None) -> "Iterator[Tensor]":
        """uint8 images [b, 3, size, size], cropped as they are encoded, in order, or `most` of them spread over all.

        Those that don't decode are left out. At the end, warnings say what was left out and what is worth knowing.

        Raises:
            UserError: none decodes, or one is not what `split_hash` told of.
        """
        from torch.utils.data import DataLoader, Subset

        self._require_train(name)
        wanted = evenly_spaced(len(self.images), most or len(self.images))
        images = CroppedImages(self.images, self.config.size, self.config.exif_orientation)
        cropped = cast("Dataset[DecodedImage]", images)  # by what it can do
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
        """
        Raises:
            UserError: it was read from other bytes than those that it is known by: what is made of it would be kept
                under the key of what it was.
        """
        if self._hashes is None or item.source_hash == hexadecimal(self._hashes[item.index]):
            return
        folder, file = self.images.folder, self.images.files[item.index]
        self._hashes = None  # for who asks again in this process
        for name in ("images", "_reference_hash"):
            self.__dict__.pop(name, None)
        raise UserError(f"{folder / file} was changed while it was measured: run the same command again.")

    def _report(self, used: int, skipped: dict[str, str], remarks: RemarkCounter) -> None:
        folder = self.images.folder
        first = next((f"{file}: {reason}" for file, reason in skipped.items()), "")
        if not used:
            raise UserError(
                f"None of {len(skipped)} images of {folder} decodes ({first}), which leaves nothing to compare with: "
                "check data.path."
            )
        sentences = [*self.images.left_out, *(f"{folder}: {sentence}" for sentence in remarks.sentences())]
        if skipped:
            sentences.append(
                f"{folder}: {len(skipped):,} of {len(skipped) + used:,} images do not decode and are left out "
                f"(the first: {first})."
            )
        for sentence in sentences:
            warnings.warn(sentence, stacklevel=3)

    def _require_train(self, name: str) -> None:
        if name != "train":
            raise UserError(
                "evaluation.reference: an image folder has no test split; use train, or give real statistics "
                "with --set evaluation.statistics=FILE.npz."
            )
