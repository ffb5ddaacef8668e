"""The cache of latents: posterior moments of every image and its mirror, in half precision.

A folder of

    encoding.json       what the cache is made of and how, written first
    shard-00000.npy     [rows, 2 (image, mirror), 2C, h, w] float16: means, then log-variances
    shard-00000.json    labels, file names and hashes of its rows and the files that were skipped, written after it
    skipped.txt         all files that were skipped, with reasons
    index.json          counts and hashes, written last: where it is, the cache is complete

Rows are in the order of the image list, hence sorted by class.

Dimensions: B images, C latent channels, h x w latents.
"""

import hashlib
import mmap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from ear.config.hashing import digest
from ear.data.decode import Remark, RemarkCounter
from ear.data.file_hashes import file_hashes
from ear.errors import UserError
from ear.files import write_atomically, write_text

FORMAT: Final = "ear-latents-1"
INDEX, ENCODING, SKIPPED = "index.json", "encoding.json", "skipped.txt"
LOG_VARIANCE_RANGE = (-30.0, 20.0)  # where autoencoders clamp it when they sample; half precision holds it


class Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Settings(Record):
    """How images become moments."""

    format: Literal["ear-latents-1"] = FORMAT
    tokenizer_hash: str
    crop: str
    size: int
    moments_shape: tuple[int, int, int]

    @property
    def settings(self) -> dict[str, object]:
        return self.model_dump(include=set(Settings.model_fields) - {"format"})


class Encoding(Settings):
    """What a cache is made of and how. One that is begun goes on only with equal settings."""

    shard_size: int
    listed: int  # images in the folder, those that don't decode included
    names_hash: str  # of the image list

    @property
    def shards(self) -> int:
        return -(-self.listed // self.shard_size)


class ShardInfo(Record):
    rows: int
    bytes: int
    sha256: str


class Remarked(Record):
    """Images of which one thing is worth knowing, such as that their EXIF orientation is ignored."""

    images: int
    first: str  # file name


class Shard(ShardInfo):
    """What stands beside a shard's moments."""

    labels: list[int]
    files: list[str]
    source_hashes: list[str]  # SHA-256 of the files' bytes
    skipped: dict[str, str]  # file name -> why it does not decode
    remarks: dict[Remark, Remarked] | None = None  # None where an earlier version wrote it, which made none


class Index(Settings):
    images: int
    skipped: int
    class_images: dict[str, int]  # class name -> images, in the order of labels
    shards: list[ShardInfo]
    content_hash: str

    @property
    def labels(self) -> Tensor:
        """[N] int64."""
        return torch.repeat_interleave(torch.tensor(list(self.class_images.values())))


def shard_path(folder: Path, number: int) -> Path:
    """The shard's moments; `.json` instead of `.npy` is its record."""
    return folder / f"shard-{number:05d}.npy"


def to_half(moments: Tensor) -> Tensor:
    """Moments [B, 2C, h, w] in float16, log-variances clamped to `LOG_VARIANCE_RANGE`.

    Raises:
        ValueError: they are not finite, or means are beyond float16.
    """
    mean, log_variance = moments.float().chunk(2, dim=1)
    half = torch.cat([mean, log_variance.clamp(*LOG_VARIANCE_RANGE)], dim=1).half()
    # The clamp turns an infinite log-variance into a finite one, so that it is looked for before.
    if not (half.isfinite().all() and log_variance.isfinite().all()):
        raise ValueError(f"moments are not finite or beyond float16: their largest is {moments.abs().max():g}")
    return half


def write_shard(
    path: Path,
    moments: NDArray[np.float16],
    labels: list[int],
    files: list[str],
    source_hashes: list[str],
    skipped: dict[str, str],
    remarks: dict[Remark, Remarked] | None = None,
) -> None:
    """Writes moments [rows, 2, 2C, h, w], then the record that makes the shard count: a kill leaves all or nothing."""

    def save(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.save(file, moments)

    path.with_suffix(".json").unlink(missing_ok=True)
    write_atomically(path, save)
    shard = Shard(
        rows=len(moments),
        bytes=path.stat().st_size,
        sha256=_sha256(path),
        labels=labels,
        files=files,
        source_hashes=source_hashes,
        skipped=skipped,
        remarks=remarks or {},
    )
    write_text(path.with_suffix(".json"), shard.model_dump_json() + "\n")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_whole(path: Path, info: ShardInfo) -> bool:
    """Whether the shard's file is there in its full length; its content is only looked at by `LatentCache.verify`."""
    return path.is_file() and path.stat().st_size == info.bytes


def write_index(folder: Path, encoding: Encoding, classes: tuple[str, ...]) -> None:
    """Sums up a folder whose shards are all there. Afterwards it is a complete cache."""
    class_images = np.zeros(len(classes), dtype=np.int64)
    infos: list[ShardInfo] = []
    skipped: dict[str, str] = {}
    for number in range(encoding.shards):
        shard = read_shard(shard_path(folder, number))
        infos.append(ShardInfo(rows=shard.rows, bytes=shard.bytes, sha256=shard.sha256))
        class_images += np.bincount(shard.labels, minlength=len(classes))
        skipped |= shard.skipped
    write_skipped(folder, skipped)
    index = Index(
        **encoding.settings,
        images=int(class_images.sum()),
        skipped=len(skipped),
        class_images=dict(zip(classes, class_images.tolist(), strict=True)),
        shards=infos,
        content_hash=_content_hash(infos, class_images.tolist(), encoding.settings),
    )
    write_text(folder / INDEX, index.model_dump_json(indent=1) + "\n")


def write_skipped(folder: Path, skipped: dict[str, str]) -> None:
    write_text(folder / SKIPPED, "".join(f"{file}\t{reason}\n" for file, reason in skipped.items()))


def _content_hash(shards: list[ShardInfo], class_images: list[int], settings: dict[str, object]) -> str:
    """Digest of all that can influence training: moments, labels (rows are sorted by class) and what they mean."""
    return digest([[(shard.rows, shard.sha256) for shard in shards], class_images, settings])


def read_shard(path: Path) -> Shard:
    """
    Raises:
        UserError: the record is missing or damaged.
    """
    return read_record(path.with_suffix(".json"), Shard, f"delete {path.name} beside it and run `ear encode` again")


AnyRecord = TypeVar("AnyRecord", bound=Record)


def read_record(path: Path, kind: type[AnyRecord], remedy: str) -> AnyRecord:
    """
    Raises:
        UserError: the file is missing, damaged or of another version.
    """
    try:
        return kind.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path} can't be read ({error.strerror}): {remedy}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        if where == "format":
            raise UserError(
                f"{path} has the format {first['input']!r}, and this version of ear reads {FORMAT!r}: "
                "encode the images again, into another folder."
            ) from error
        raise UserError(f"{path} is damaged ({where + ': ' if where else ''}{first['msg']}): {remedy}.") from error


class LatentCache:
    """A complete cache, read row by row. Processes may fork with it or pickle it: maps are opened on first use."""

    def __init__(self, folder: Path, index: Index) -> None:
        self.folder = folder
        self.index = index
        self.images = index.images
        self.classes = len(index.class_images)
        self.class_names = tuple(index.class_images)
        self.labels = index.labels
        self.moments_shape = index.moments_shape  # (2C, h, w)
        self.tokenizer_hash = index.tokenizer_hash
        self.size = index.size
        self.content_hash = index.content_hash
        self._starts = np.cumsum([0, *(shard.rows for shard in index.shards)])
        self._maps: list[_MappedShard | None] = [None] * len(index.shards)

    @classmethod
    def open(cls, folder: Path) -> "LatentCache":
        """
        Raises:
            UserError: there is no complete cache of this version, or shards are missing or truncated.
        """
        if not (folder / INDEX).is_file():
            raise _without_index(folder)
        index = read_record(folder / INDEX, Index, "run the same `ear encode` again, which writes only what is missing")
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
        """
        Raises:
            UserError: the cache holds another number of classes, another crop or another autoencoder's latents.
        """
        if classes != self.classes:
            raise UserError(
                f"data.classes is {classes}, but {self.folder} holds {self.classes} classes: "
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
                f"({tokenizer_hash[:12]}): give that one by --set tokenizer.checkpoint=PATH, or encode the images with "
                "this one into another folder by --set data.latents=FOLDER."
            )

    def moments(self, indices: Tensor, mirrored: Tensor) -> Tensor:
        """Moments [B, 2C, h, w] float16 of images `indices` [B], or of their mirrors where `mirrored` [B] is true."""
        out = torch.empty(len(indices), *self.moments_shape, dtype=torch.float16)
        rows = out.numpy()
        wanted = indices.numpy()
        shards = np.searchsorted(self._starts, wanted, side="right") - 1
        places = 2 * (wanted - self._starts[shards]) + mirrored.numpy()
        reads = [(self._mapped(shard), place) for shard, place in zip(shards.tolist(), places.tolist(), strict=True)]
        # On a cold cache the disk then works on all rows at once instead of one page after the other (25 times faster).
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
        """Of all images in order, relative to the image folder."""
        return (file for shard in self._shards() for file in shard.files)

    def source_hashes(self) -> Iterator[str]:
        """SHA-256 of all images' files, in order."""
        return (source_hash for shard in self._shards() for source_hash in shard.source_hashes)

    def remarks(self) -> RemarkCounter:
        """What was found of the images as they were decoded."""
        counter = RemarkCounter()
        for shard in self._shards():
            for remark, found in (shard.remarks or {}).items():
                counter.add(remark, found.first, found.images)
        return counter

    def require_intact(self) -> None:
        """Compares every shard with the hash that it was written with; one that was not touched is not read again.

        Raises:
            UserError: one has changed, so that results would be kept under the key of what it was.
        """
        self._maps = [None] * len(self.index.shards)  # of files that may have been replaced since
        names = [shard_path(self.folder, number).name for number in range(len(self.index.shards))]
        found = file_hashes(self.folder, names)
        changed = [
            name
            for name, info, row in zip(names, self.index.shards, found, strict=True)
            if row.tobytes().hex() != info.sha256
        ]
        if changed:
            raise UserError(
                f"{self.folder} is damaged: {len(changed)} of {len(names)} shards are not what was written "
                f"({changed[0]}, SHA-256). Delete these and run the same `ear encode` again, which encodes only them."
            )
        if fault := self._index_fault():
            raise UserError(f"{self.folder} is damaged: {fault}")

    def verify(self, on_shard: Callable[[], None] = lambda: None) -> list[str]:
        """Reads everything and returns what is wrong, a sentence each; `on_shard` is called after each shard."""
        faults = []
        for number, info in enumerate(self.index.shards):
            path = shard_path(self.folder, number)
            labels = self.labels[self._starts[number] : self._starts[number + 1]].tolist()
            fault = _shard_fault(path, info, labels)
            mapped = self._maps[number]
            if fault is None and mapped is not None and mapped.inode != path.stat().st_ino:
                faults.append(f"{path.name}: it was replaced while it was read. Run the same command again.")
            if fault is not None:
                faults.append(f"{path.name}: {fault}. Delete it and run the same `ear encode` again.")
            on_shard()
        class_images = list(self.index.class_images.values())
        if sum(info.rows for info in self.index.shards) != self.images or sum(class_images) != self.images:
            faults.append(f"{INDEX}: its counts of images differ. Delete it and run the same `ear encode` again.")
        if fault := self._index_fault():
            faults.append(fault)
        return faults

    def _index_fault(self) -> str | None:
        class_images = list(self.index.class_images.values())
        if _content_hash(self.index.shards, class_images, self.index.settings) == self.content_hash:
            return None
        return f"{INDEX}: its content hash is not that of its content. Delete it and run `ear encode` again."


def _shard_fault(path: Path, info: ShardInfo, labels: list[int]) -> str | None:
    try:
        shard = read_shard(path)
        content = _sha256(path)
    except (UserError, OSError) as error:
        return str(error)
    if content != info.sha256:
        return "its content is not what was written (SHA-256)"
    if (shard.rows, shard.bytes, shard.sha256) != (info.rows, info.bytes, info.sha256):
        return "its record is of another encoding than the index"
    if not len(shard.labels) == len(shard.files) == len(shard.source_hashes) == shard.rows:
        return "its record does not have a label, a file and a hash for each row"
    if shard.labels != labels:
        return "its labels are not those of the index"
    return None


def _without_index(folder: Path) -> UserError:
    if not (folder / ENCODING).is_file():
        return UserError(
            f"{folder} holds no cached latents: check data.latents, or make them with "
            "`ear encode CONFIG --set data.path=IMAGES --set data.latents=FOLDER`."
        )
    encoding = read_record(folder / ENCODING, Encoding, "encode the images again, into another folder")
    done = sum(shard_path(folder, number).with_suffix(".json").is_file() for number in range(encoding.shards))
    return UserError(
        f"{folder} is unfinished: {done} of {encoding.shards} shards are there; "
        "the same `ear encode` goes on from them."
    )


class _MappedShard:
    def __init__(self, path: Path, moments_shape: tuple[int, int, int]) -> None:
        array = np.load(path, mmap_mode="r")
        self.inode = path.stat().st_ino
        assert array.dtype == np.float16
        assert array.shape[1:] == (2, *moments_shape)
        assert isinstance(array.base, mmap.mmap)
        self._map = array.base
        self._offset = array.offset
        # Without the view, each row would be made a memmap, which takes longer than copying it.
        self.entries = array.view(np.ndarray).reshape(-1, *moments_shape)
        self._entry_bytes = self.entries[:1].nbytes

    def announce(self, place: int) -> None:
        """Tells the operating system that this entry is going to be read."""
        start = self._offset + place * self._entry_bytes
        aligned = start - start % mmap.PAGESIZE
        self._map.madvise(mmap.MADV_WILLNEED, aligned, start + self._entry_bytes - aligned)
