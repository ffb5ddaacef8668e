"""Encoding an image folder into a cache of latents: by one process or several, in one go or in many.

Dimensions: b images of a batch, C latent channels, H x W pixels, h x w latents.
"""

import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ear.data.base import to_unit_range
from ear.data.image_folder import CROP, CroppedImages, DecodedImage, ImageList
from ear.data.latents import (
    ENCODING,
    INDEX,
    SKIPPED,
    Encoding,
    is_whole,
    read_record,
    read_shard,
    shard_path,
    to_half,
    write_index,
    write_shard,
    write_skipped,
)
from ear.errors import UserError
from ear.files import require_writable, write_json
from ear.interrupt import SIGNALS

Moments = Callable[[Tensor], Tensor]
"""Images [b, 3, H, W] in [-1, 1] on the device -> moments of their latents' posteriors [b, 2C, h, w]."""
SHARD_SIZE = 4096  # 128 MiB of KL-16's moments: what a kill costs at most; 313 shards for ImageNet
MAX_SKIPPED = 0.001
SECONDS_BETWEEN_LOOKS = 0.5


def encode_folder(
    images: ImageList,
    folder: Path,
    moments: Moments,
    *,
    tokenizer_hash: str,
    size: int,
    shard_size: int = SHARD_SIZE,
    batch_size: int = 256,
    workers: int = 0,
    device: torch.device = torch.device("cpu"),  # noqa: B008 (immutable)
    rank: int = 0,
    world: int = 1,
    max_skipped: float = MAX_SKIPPED,
    on_images: Callable[[int, int], None] = lambda *_: None,
    stop: Callable[[], bool] = lambda: False,
    wait: Callable[[], None] = lambda: time.sleep(SECONDS_BETWEEN_LOOKS),
) -> bool:
    """Encodes whatever of the images `folder` lacks; returns False if stopped before the end.

    Args:
        moments: gets the images and the mirrors of a batch at once: 2 * batch_size images.
        workers: processes that decode images; 0 decodes in this one.
        rank: number of this process among the `world` that encode into the folder. Number 0 waits for the others and
            writes the index; they return when their shards are written.
        max_skipped: share of the images that may fail to decode.
        on_images: called with the numbers of images done and of all, in this process's shards: first with what was
            done earlier, so that an estimate of the time remaining can leave it out, then after each batch.
        stop: asked between batches. Finished shards stay, the one in work is lost.
        wait: called between looks at whether the other processes are done.

    Raises:
        UserError: the folder can't be written or holds an encoding of something else, too many images don't decode, or
            moments are not finite.
    """
    require_writable(folder, "--set data.latents=FOLDER")
    encoding = Encoding(
        tokenizer_hash=tokenizer_hash,
        crop=CROP,
        size=size,
        moments_shape=_moments_shape(moments, size, device),
        shard_size=shard_size,
        listed=len(images),
        names_hash=images.names_hash,
    )
    _begin(folder, encoding, is_main=rank == 0)
    shards = _Shards(images, folder, encoding, max_skipped)
    mine = range(rank, encoding.shards, world)
    _remove_stale_files(folder, mine, is_main=rank == 0)
    missing = [number for number in mine if not shards.is_finished(number)]
    shards.check_skipped()

    total = sum(len(shards.images_of(number)) for number in mine)
    done = total - sum(len(shards.images_of(number)) for number in missing)
    on_images(done, total)
    plan = {number: _batches(shards.images_of(number), batch_size) for number in missing}
    decoded = _decode(images, size, [batch for batches in plan.values() for batch in batches], workers)
    for number, batches in plan.items():
        shard = _ShardInWork()
        for batch in batches:
            if stop():
                return False
            shard.add(next(decoded), moments, device, images)
            done += len(batch)
            on_images(done, total)
        shards.write(number, shard)
        shards.check_skipped()
    return rank != 0 or shards.finish(stop, wait)


def _moments_shape(moments: Moments, size: int, device: torch.device) -> tuple[int, int, int]:
    with torch.inference_mode():
        shape = moments(torch.zeros(2, 3, size, size, device=device)).shape
    assert len(shape) == 4, shape
    assert shape[1] % 2 == 0, shape
    return shape[1], shape[2], shape[3]


def _begin(folder: Path, encoding: Encoding, is_main: bool) -> None:
    """Writes down what is being encoded, or finds the same written down by an earlier call."""
    path = folder / ENCODING
    if not path.exists():
        if is_main:
            write_json(path, encoding.model_dump(mode="json"))
        return
    before = read_record(path, Encoding, "encode into another folder by --set data.latents=FOLDER")
    sentences = {
        "tokenizer_hash": "another autoencoder: {0.tokenizer_hash:.12} then, {1.tokenizer_hash:.12} now",
        "crop": "another crop: {0.crop} then, {1.crop} now",
        "size": "another crop size: data.size={0.size} then, {1.size} now",
        "shard_size": "another shard size: {0.shard_size} images then, {1.shard_size} now",
        "names_hash": "other images, since files were added, removed or renamed: {0.listed} files then, {1.listed} now",
    }
    differing = [text for field, text in sentences.items() if getattr(before, field) != getattr(encoding, field)]
    if differing:
        raise UserError(
            f"{folder} was begun with {'; with '.join(differing).format(before, encoding)}. "
            "Go on with what it was begun with, or encode into another folder by --set data.latents=FOLDER."
        )


def _remove_stale_files(folder: Path, shards: range, is_main: bool) -> None:
    """Removes what a kill left half written. Only of this process's files: others may be writing theirs."""
    own = {shard_path(folder, number).stem for number in shards}
    for path in folder.glob(".*"):
        name = path.name[1:].split(".")[0]
        if name in own or (is_main and path.name.startswith((f".{ENCODING}.", f".{INDEX}."))):
            path.unlink(missing_ok=True)


class _Shards:
    """The shards of a folder: which are there, and what was skipped in those that this process knows."""

    def __init__(self, images: ImageList, folder: Path, encoding: Encoding, max_skipped: float) -> None:
        self._images = images
        self._folder = folder
        self._encoding = encoding
        self._max_skipped = max_skipped
        self._decoder = CroppedImages(images, encoding.size)
        self._skipped: dict[str, str] = {}

    def images_of(self, number: int) -> range:
        start = number * self._encoding.shard_size
        return range(start, min(start + self._encoding.shard_size, len(self._images)))

    def is_finished(self, number: int) -> bool:
        """Whether a shard need not be made (again). It need where a file that it skipped was mended since."""
        path = shard_path(self._folder, number)
        if not path.with_suffix(".json").exists():
            return False
        try:
            shard = read_shard(path)
        except UserError:
            return False
        if not is_whole(path, shard):
            return False
        skipped = (index for index in self.images_of(number) if self._images.files[index] in shard.skipped)
        if any(self._decoder[index].pixels is not None for index in skipped):
            return False
        self._skipped |= shard.skipped
        return True

    def write(self, number: int, shard: "_ShardInWork") -> None:
        path = shard_path(self._folder, number)
        moments = torch.cat([torch.empty(0, 2, *self._encoding.moments_shape, dtype=torch.float16), *shard.moments])
        files = [self._images.files[item.index] for item in shard.decoded]
        labels = [self._images.labels[item.index] for item in shard.decoded]
        source_hashes = [item.source_hash for item in shard.decoded]
        skipped = {self._images.files[item.index]: item.error for item in shard.skipped}
        write_shard(path, moments.numpy(), labels, files, source_hashes, skipped)
        self._skipped |= skipped

    def check_skipped(self) -> None:
        """
        Raises:
            UserError: too many images of the known shards were skipped.
        """
        if len(self._skipped) <= self._max_skipped * len(self._images):
            return
        write_skipped(self._folder, self._skipped)
        first = [f"\n  {file}: {reason}" for file, reason in list(self._skipped.items())[:10]]
        raise UserError(
            f"{len(self._skipped)} of the {len(self._images)} images do not decode, more than the share of "
            f"{self._max_skipped:g} that may be skipped. All of them so far: {self._folder / SKIPPED}. "
            "Mend them and run the same command again, or allow a larger share with --max-skipped. "
            f"The first:{''.join(first)}"
        )

    def finish(self, stop: Callable[[], bool], wait: Callable[[], None]) -> bool:
        """Waits for all shards, then writes the index; returns False if stopped."""
        for number in range(self._encoding.shards):
            while not self.is_finished(number):
                if stop():
                    return False
                wait()
        self.check_skipped()
        write_index(self._folder, self._encoding, self._images.classes)
        return True


@dataclass(frozen=True)
class _DecodedBatch:
    pixels: Tensor  # [b, 3, H, W] uint8, of those that decode
    decoded: list[DecodedImage]  # b of them; their pixels are in the tensor
    skipped: list[DecodedImage]


class _ShardInWork:
    def __init__(self) -> None:
        self.moments: list[Tensor] = []  # [b, 2, 2C, h, w] float16 each
        self.decoded: list[DecodedImage] = []
        self.skipped: list[DecodedImage] = []

    @torch.inference_mode()
    def add(self, batch: _DecodedBatch, moments: Moments, device: torch.device, images: ImageList) -> None:
        """
        Raises:
            UserError: moments are not finite.
        """
        self.decoded += batch.decoded
        self.skipped += batch.skipped
        if not batch.decoded:
            return
        upright = to_unit_range(batch.pixels.to(device))
        both = moments(torch.cat([upright, upright.flip(dims=[3])]))
        try:
            half = to_half(both)
        except ValueError as error:
            files = [images.files[item.index] for item in batch.decoded]
            raise UserError(
                f"The autoencoder fails between {files[0]} and {files[-1]}: {error}. "
                "Check tokenizer.checkpoint: it computes in float32."
            ) from error
        self.moments.append(torch.stack(half.cpu().chunk(2), dim=1))


def _batches(images: range, size: int) -> list[range]:
    return [images[start : start + size] for start in range(0, len(images), size)]


def _decode(images: ImageList, size: int, batches: list[range], workers: int) -> Iterator[_DecodedBatch]:
    """The images of each batch, in order, whichever worker is faster."""
    loader: DataLoader[DecodedImage] = DataLoader(
        CroppedImages(images, size),
        batch_sampler=[list(batch) for batch in batches],
        num_workers=workers,
        collate_fn=_collate,
        worker_init_fn=_leave_signals_to_the_main_process,
    )
    return iter(loader)


def _collate(items: list[DecodedImage]) -> _DecodedBatch:
    # One tensor a batch passes from a worker quickly, many small ones don't.
    pixels = [item.pixels for item in items if item.pixels is not None]
    return _DecodedBatch(
        pixels=torch.stack(pixels) if pixels else torch.empty(0, dtype=torch.uint8),
        decoded=[replace(item, pixels=None) for item in items if item.pixels is not None],
        skipped=[item for item in items if item.pixels is None],
    )


def _leave_signals_to_the_main_process(_worker: int) -> None:
    # A terminal sends Ctrl-C to all of its processes; only the main one knows what to do.
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
