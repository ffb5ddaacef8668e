"""Reads a complete cache of latents (`ear.data.latent_files`).

Dimensions: B images, C latent channels, h x w latents.
"""

import mmap
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ear.data.decode import RemarkCounter
from ear.data.file_hashes import file_hashes, hexadecimal
from ear.data.latent_files import (
    ENCODING,
    INDEX,
    Encoding,
    Index,
    Shard,
    ShardInfo,
    content_hash_of,
    is_whole,
    read_record,
    read_shard,
    shard_path,
)
from ear.errors import UserError
from ear.files.hashes import file_sha256

if TYPE_CHECKING:
    from torch import Tensor


class LatentCache:
    """A complete cache of latents, read by memory maps.

    Maps are opened on first use, so processes may fork with this object or pickle it.
    """

    def __init__(self, folder: Path, index: Index) -> None:
        self.folder = folder
        self.index = index
        self.images = index.images
        self.classes = len(index.class_images)
        self.class_names = tuple(index.class_images)
        self.moments_shape = index.moments_shape  # (2C, h, w)
        self.tokenizer_hash = index.tokenizer_hash
        self.size = index.size
        self.content_hash = index.content_hash
        self._starts = np.cumsum([0, *(shard.rows for shard in index.shards)])
        self._maps: list[_MappedShard | None] = [None] * len(index.shards)

    @cached_property
    def labels(self) -> "Tensor":
        """Labels [N] int64 of all images."""
        return self.index.labels

    @classmethod
    def open(cls, folder: Path) -> "LatentCache":
        """Open the cache in a folder.

        Raises:
            UserError: there is no complete cache of this version, or shards are missing or truncated.
        """
        if not (folder / INDEX).is_file():
            raise _without_index(folder)
        index = read_record(folder / INDEX, Index, "run the same `ear encode` again, which writes only missing files")
        paths = [shard_path(folder, number) for number in range(len(index.shards))]
        broken = [path for path, info in zip(paths, index.shards, strict=True) if not is_whole(path, info)]
        if broken:
            fault = "truncated" if broken[0].is_file() else "missing"
            raise UserError(
                f"{folder}: {len(broken)} of {len(paths)} shards are missing or truncated "
                f"({broken[0].name} is {fault}). Run the same `ear encode` again, which encodes only these."
            )
        return cls(folder, index)

    def check(self, *, classes: int, size: int, tokenizer_hash: str | None) -> None:
        """Check that the cache matches a configuration. `tokenizer_hash` may be None to skip the autoencoder.

        Raises:
            UserError: the cache has another number of classes, another crop size or another autoencoder.
        """
        if classes != self.classes:
            raise UserError(
                f"data.classes is {classes}, but {self.folder} has {self.classes} classes: "
                f"--set data.classes={self.classes} if the cache is right, else --set data.latents=FOLDER."
            )
        if size != self.size:
            raise UserError(
                f"data.size is {size}, but the images of {self.folder} were cropped to {self.size} pixels: "
                f"--set data.size={self.size} if the cache is right, else --set data.latents=FOLDER."
            )
        if tokenizer_hash is not None and tokenizer_hash != self.tokenizer_hash:
            raise UserError(
                f"{self.folder} was encoded with another autoencoder ({self.tokenizer_hash[:12]}) than the configured "
                f"one ({tokenizer_hash[:12]}): use that one with --set tokenizer.checkpoint=PATH, or encode the images "
                "with this one into another folder with --set data.latents=FOLDER."
            )

    def moments(self, indices: "Tensor", mirrored: "Tensor") -> "Tensor":
        """Moments [B, 2C, h, w] float16 of the images `indices` [B], or of their mirror images where `mirrored` [B]."""
        import torch

        out = torch.empty(len(indices), *self.moments_shape, dtype=torch.float16)
        rows = out.numpy()
        wanted = indices.numpy()
        shards = np.searchsorted(self._starts, wanted, side="right") - 1
        places = 2 * (wanted - self._starts[shards]) + mirrored.numpy()
        reads = [(self._mapped(shard), place) for shard, place in zip(shards.tolist(), places.tolist(), strict=True)]
        # With a cold page cache the disk then reads all rows at once instead of page by page (25 times as fast).
        for shard, place in reads:
            shard.announce(place)
        for row, (shard, place) in enumerate(reads):
            rows[row] = shard.entries[place]
        return out

    def _mapped(self, number: int) -> "_MappedShard":
        mapped = self._maps[number]
        if mapped is None:
            mapped = self._maps[number] = _MappedShard(shard_path(self.folder, number), self.moments_shape)
        return mapped

    def __getstate__(self) -> dict[str, object]:
        return {"folder": self.folder, "index": self.index}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def _shards(self) -> Iterator[Shard]:
        return (read_shard(shard_path(self.folder, number)) for number in range(len(self.index.shards)))

    def file_names(self) -> Iterator[str]:
        """The file names of all images in order, relative to the image folder."""
        return (file for shard in self._shards() for file in shard.files)

    def source_hashes(self) -> Iterator[str]:
        """The SHA-256 of all images' files in order."""
        return (source_hash for shard in self._shards() for source_hash in shard.source_hashes)

    def remarks(self) -> RemarkCounter:
        """The remarks on the images from when they were decoded."""
        counter = RemarkCounter()
        for shard in self._shards():
            for remark, found in (shard.remarks or {}).items():
                counter.add(remark, found.first, found.images)
        return counter

    def require_intact(self, stop: Callable[[], bool] = lambda: False) -> None:
        """Compare the hash of every shard with the one in the index. Files that have not changed are read only once.

        Args:
            stop: called between shards; return True to stop.

        Raises:
            UserError: a shard has changed, so results would be published under the key of the former data.
            StoppedError: `stop` returned True.
        """
        self._maps = [None] * len(self.index.shards)  # the mapped files may have been replaced
        names = [shard_path(self.folder, number).name for number in range(len(self.index.shards))]
        found = [hexadecimal(row) for row in file_hashes(self.folder, names, stop)]
        if "" in found:
            raise UserError(f"{self.folder / names[found.index('')]} can't be read: fix its permissions.")
        changed = [
            name for name, info, content in zip(names, self.index.shards, found, strict=True) if content != info.sha256
        ]
        if changed:
            raise UserError(
                f"{self.folder} is damaged: {len(changed)} of {len(names)} shards have changed since they were written "
                f"({changed[0]}, SHA-256). Delete these and run the same `ear encode` again, which encodes only them."
            )
        if fault := self._index_fault():
            raise UserError(f"{self.folder} is damaged: {fault}")

    def verify(self, on_shard: Callable[[], None] = lambda: None) -> list[str]:
        """Read and check the whole cache.

        Args:
            on_shard: called after each shard.

        Returns:
            A sentence for each fault.
        """
        faults = []
        for number, info in enumerate(self.index.shards):
            path = shard_path(self.folder, number)
            labels = self.labels[self._starts[number] : self._starts[number + 1]].tolist()
            fault = _shard_fault(path, info, labels)
            mapped = self._maps[number]
            if fault is None and mapped is not None and mapped.inode != path.stat().st_ino:
                faults.append(f"{path.name}: it was replaced while in use. Run the same command again.")
            if fault is not None:
                faults.append(f"{path.name}: {fault}. Delete it and run the same `ear encode` again.")
            on_shard()
        class_images = list(self.index.class_images.values())
        if sum(info.rows for info in self.index.shards) != self.images or sum(class_images) != self.images:
            faults.append(f"{INDEX}: its image counts differ. Delete it and run the same `ear encode` again.")
        if fault := self._index_fault():
            faults.append(fault)
        return faults

    def _index_fault(self) -> str | None:
        class_images = list(self.index.class_images.values())
        if content_hash_of(self.index.shards, class_images, self.index.settings) == self.content_hash:
            return None
        return f"{INDEX}: its content does not match its content hash. Delete it and run `ear encode` again."


def _shard_fault(path: Path, info: ShardInfo, labels: list[int]) -> str | None:
    try:
        shard = read_shard(path)
        content = file_sha256(path)
    except (UserError, OSError) as error:
        return str(error)
    if content != info.sha256:
        return "its content has changed since it was written (SHA-256)"
    if (shard.rows, shard.bytes, shard.sha256) != (info.rows, info.bytes, info.sha256):
        return "its record does not match the index"
    if not len(shard.labels) == len(shard.files) == len(shard.source_hashes) == shard.rows:
        return "its record does not have a label, a file and a hash for each row"
    if shard.labels != labels:
        return "its labels do not match the index"
    return None


def _without_index(folder: Path) -> UserError:
    if not (folder / ENCODING).is_file():
        return UserError(
            f"{folder} has no cached latents: check data.latents, or create them with "
            "`ear encode CONFIG --set data.path=IMAGES --set data.latents=FOLDER`."
        )
    encoding = read_record(folder / ENCODING, Encoding, "encode the images again into another folder")
    done = sum(shard_path(folder, number).with_suffix(".json").is_file() for number in range(encoding.shards))
    return UserError(
        f"{folder} is unfinished: {done} of {encoding.shards} shards are done; "
        "run the same `ear encode` again to finish it."
    )


class _MappedShard:
    """A memory map of a shard's moments."""

    def __init__(self, path: Path, moments_shape: tuple[int, int, int]) -> None:
        array = np.load(path, mmap_mode="r")
        self.inode = path.stat().st_ino
        assert array.dtype == np.float16
        assert array.shape[1:] == (2, *moments_shape)
        assert isinstance(array.base, mmap.mmap)
        self._map = array.base
        self._offset = array.offset
        # Without the view, indexing would create a memmap object per row, which takes longer than copying the row.
        self.entries = array.view(np.ndarray).reshape(-1, *moments_shape)
        self._entry_bytes = self.entries[:1].nbytes

    def announce(self, place: int) -> None:
        """Tell the operating system that this entry will be read soon."""
        start = self._offset + place * self._entry_bytes
        aligned = start - start % mmap.PAGESIZE
        self._map.madvise(mmap.MADV_WILLNEED, aligned, start + self._entry_bytes - aligned)
