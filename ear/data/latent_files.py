"""The file format of a cache of latents: posterior moments of every image and its mirror image, in half precision.

A cache is a folder with

    encoding.json       what is encoded and how, written first
    shard-00000.npy     [rows, 2 (image, mirror image), 2C, h, w] float16: means, then log-variances
    shard-00000.json    labels, file names and hashes of its rows, and skipped files; written after the moments
    skipped.txt         all skipped files, with reasons
    index.json          counts and hashes, written last: the cache is complete if it exists

Rows are in the order of the image list, so they are sorted by class.

Dimensions: B images, C latent channels, h x w latents.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from ear.config.hashing import digest
from ear.data.decode import Remark
from ear.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

FORMAT: Final = "ear-latents-1"
INDEX, ENCODING, SKIPPED = "index.json", "encoding.json", "skipped.txt"


class Record(BaseModel):
    """Base of the JSON records in a cache: frozen, without unknown keys."""

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
        """All of these settings but the format, as JSON values."""
        return self.model_dump(include=set(Settings.model_fields) - {"format"})


class Encoding(Settings):
    """What a cache encodes and how. An unfinished cache can only be continued with equal settings."""

    shard_size: int
    listed: int  # images in the folder, including those that can't be decoded
    names_hash: str  # of the image list

    @property
    def shards(self) -> int:
        """Number of shards."""
        return -(-self.listed // self.shard_size)


class ShardInfo(Record):
    """Size and hash of a shard's moments."""

    rows: int
    bytes: int
    sha256: str


class Remarked(Record):
    """The number of images with a remark, such as an ignored EXIF orientation."""

    images: int
    first: str  # file name


class Shard(ShardInfo):
    """The record of a shard, stored beside its moments."""

    labels: list[int]
    files: list[str]
    source_hashes: list[str]  # SHA-256 of the files' bytes
    skipped: dict[str, str]  # file name -> why it can't be decoded
    remarks: dict[Remark, Remarked] | None = None  # None if an earlier version wrote it, which recorded none


class Index(Settings):
    """The index of a complete cache."""

    images: int
    skipped: int
    class_images: dict[str, int]  # class name -> images, in the order of labels
    shards: list[ShardInfo]
    content_hash: str

    @property
    def labels(self) -> "Tensor":
        """Labels [N] int64 of all images."""
        import torch

        return torch.repeat_interleave(torch.tensor(list(self.class_images.values())))


def shard_path(folder: Path, number: int) -> Path:
    """The file of a shard's moments. Its record has the suffix `.json` instead of `.npy`."""
    return folder / f"shard-{number:05d}.npy"


def is_whole(path: Path, info: ShardInfo) -> bool:
    """Whether the shard's file exists with its full length. Only `LatentCache.verify` checks the content."""
    return path.is_file() and path.stat().st_size == info.bytes


def content_hash_of(shards: list[ShardInfo], class_images: list[int], settings: dict[str, object]) -> str:
    """Hash of everything that can influence training: moments, labels (rows are sorted by class) and settings."""
    return digest([[(shard.rows, shard.sha256) for shard in shards], class_images, settings])


def read_shard(path: Path) -> Shard:
    """Read the record of a shard.

    Raises:
        UserError: the record is missing or damaged.
    """
    return read_record(path.with_suffix(".json"), Shard, f"delete {path.name} beside it and run `ear encode` again")


AnyRecord = TypeVar("AnyRecord", bound=Record)


def read_record(path: Path, kind: type[AnyRecord], remedy: str) -> AnyRecord:
    """Read a JSON record. `remedy` ends the messages.

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
                f"{path} has the format {first['input']!r}, but this version of ear reads {FORMAT!r}: "
                "encode the images again into another folder."
            ) from error
        raise UserError(f"{path} is damaged ({where + ': ' if where else ''}{first['msg']}): {remedy}.") from error
