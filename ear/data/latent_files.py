"""The files of a cache of latents: posterior moments of every image and its mirror, in half precision.

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
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from ear.config.hashing import digest
from ear.data.decode import Remark
from ear.errors import UserError
from ear.files.writing import write_atomically, write_text

if TYPE_CHECKING:
    from torch import Tensor

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
    def labels(self) -> "Tensor":
        """[N] int64."""
        import torch

        return torch.repeat_interleave(torch.tensor(list(self.class_images.values())))


def shard_path(folder: Path, number: int) -> Path:
    """The shard's moments; `.json` instead of `.npy` is its record."""
    return folder / f"shard-{number:05d}.npy"


def to_half(moments: "Tensor") -> "Tensor":
    """Moments [B, 2C, h, w] in float16, log-variances clamped to `LOG_VARIANCE_RANGE`.

    Raises:
        ValueError: they are not finite, or means are beyond float16.
    """
    import torch

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
        sha256=file_sha256(path),
        labels=labels,
        files=files,
        source_hashes=source_hashes,
        skipped=skipped,
        remarks=remarks or {},
    )
    write_text(path.with_suffix(".json"), shard.model_dump_json() + "\n")


def file_sha256(path: Path) -> str:
    """Of every byte as it is now; `ear.config.hashing.sha256` remembers a file whose size and time stay."""
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
        content_hash=content_hash_of(infos, class_images.tolist(), encoding.settings),
    )
    write_text(folder / INDEX, index.model_dump_json(indent=1) + "\n")


def write_skipped(folder: Path, skipped: dict[str, str]) -> None:
    write_text(folder / SKIPPED, "".join(f"{file}\t{reason}\n" for file, reason in skipped.items()))


def content_hash_of(shards: list[ShardInfo], class_images: list[int], settings: dict[str, object]) -> str:
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
