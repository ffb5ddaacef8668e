"""Encodes an image folder into a cache of latents, with one or several processes, resumable at any time.

Dimensions: b images of a batch, C latent channels, H x W pixels, h x w latents.
"""

import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ear.data.base import to_unit_range
from ear.data.decode import RemarkCounter, crop_name, is_sixteen_bit_png
from ear.data.image_folder import CroppedImages, DecodedBatch, DecodedImage, ImageList, collate
from ear.data.latent_files import (
    ENCODING,
    INDEX,
    SKIPPED,
    Encoding,
    Remarked,
    Shard,
    is_whole,
    read_record,
    read_shard,
    shard_path,
)
from ear.data.latent_writing import to_half, write_index, write_shard, write_skipped
from ear.errors import UserError
from ear.files.writing import require_writable, write_json
from ear.process.interrupt import SIGNALS

Moments = Callable[[Tensor], Tensor]
"""Images [b, 3, H, W] in [-1, 1] on the device -> posterior moments of their latents [b, 2C, h, w]."""
SHARD_SIZE = 4096  # 128 MiB of KL-16's moments, the most that a kill can lose; 313 shards for ImageNet
MAX_SKIPPED = 0.001
POLL_SECONDS = 0.5


def encode_folder(
    images: ImageList,
    folder: Path,
    moments: Moments,
    *,
    tokenizer_hash: str,
    size: int,
    exif_orientation: bool = False,
    shard_size: int = SHARD_SIZE,
    batch_size: int = 256,
    workers: int = 0,
    device: torch.device = torch.device("cpu"),  # noqa: B008 (immutable)
    rank: int = 0,
    world: int = 1,
    max_skipped: float = MAX_SKIPPED,
    on_images: Callable[[int, int], None] = lambda *_: None,
    stop: Callable[[], bool] = lambda: False,
    wait: Callable[[], None] = lambda: time.sleep(POLL_SECONDS),
) -> bool:
    """Encode the images that the cache in `folder` lacks. Returns False if stopped before the end.

    Args:
        exif_orientation: rotate images by their EXIF orientation.
        moments: called with the images of a batch and their mirror images at once: 2 * batch_size images.
        workers: processes that decode images; 0 decodes in this process.
        rank: number of this process among the `world` processes that encode into the folder. Process 0 waits for the
            others and writes the index; the others return once their shards are written.
        max_skipped: maximum fraction of images that may fail to decode.
        on_images: called with the number of images done and the total, in this process's shards: first with the images
            of earlier calls, so that an ETA can exclude them, then after each batch.
        stop: called between batches; return True to stop. Finished shards stay, the current one is lost.
        wait: called between checks whether the other processes are done.

    Raises:
        UserError: the folder can't be written or contains another encoding; too many images, or all of a class, can't
            be decoded; or moments are not finite.
    """
    require_writable(folder, "--set data.latents=FOLDER")
    encoding = Encoding(
        tokenizer_hash=tokenizer_hash,
        crop=crop_name(exif_orientation),
        size=size,
        moments_shape=_moments_shape(moments, size, device),
        shard_size=shard_size,
        listed=len(images),
        names_hash=images.names_hash,
    )
    _begin(folder, encoding, is_main=rank == 0)
    decoder = CroppedImages(images, size, exif_orientation)
    shards = _Shards(images, decoder, folder, encoding, max_skipped)
    mine = range(rank, encoding.shards, world)
    _remove_stale_files(folder, mine, is_main=rank == 0)
    missing = [number for number in mine if not shards.is_finished(number)]
    if missing:  # shards that are written again may differ from those in an existing index
        (folder / INDEX).unlink(missing_ok=True)
    shards.check_skipped()

    total = sum(len(shards.images_of(number)) for number in mine)
    done = total - sum(len(shards.images_of(number)) for number in missing)
    on_images(done, total)
    plan = {number: _batches(shards.images_of(number), batch_size) for number in missing}
    decoded = _decode(decoder, [batch for batches in plan.values() for batch in batches], workers)
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
    """Record the encoding, or check that an earlier call recorded the same one.

    Raises:
        UserError: the folder contains another encoding.
    """
    path = folder / ENCODING
    if not path.exists():
        if is_main:
            write_json(path, encoding.model_dump(mode="json"))
        return
    before = read_record(path, Encoding, "encode into another folder with --set data.latents=FOLDER")
    sentences = {
        "tokenizer_hash": "another autoencoder: {0.tokenizer_hash:.12} then, {1.tokenizer_hash:.12} now",
        "crop": "another crop: {0.crop} then, {1.crop} now",
        "size": "another crop size: data.size={0.size} then, {1.size} now",
        "shard_size": "another shard size: {0.shard_size} images then, {1.shard_size} now",
        "names_hash": "other images, since files were added, removed or renamed: {0.listed} files then, {1.listed} now "
        "(early versions used only .jpg, .jpeg, .png, .bmp and .webp)",
    }
    differing = [text for field, text in sentences.items() if getattr(before, field) != getattr(encoding, field)]
    if differing:
        raise UserError(
            f"{folder} was started with {'; with '.join(differing).format(before, encoding)}. "
            "Use the original settings, or encode into another folder with --set data.latents=FOLDER."
        )


def _remove_stale_files(folder: Path, shards: range, is_main: bool) -> None:
    """Remove partly written files of a killed process; only this process's, since others may be writing theirs."""
    own = {shard_path(folder, number).stem for number in shards}
    for path in folder.glob(".*"):
        name = path.name[1:].split(".")[0]
        if name in own or (is_main and path.name.startswith((f".{ENCODING}.", f".{INDEX}."))):
            path.unlink(missing_ok=True)


class _Shards:
    """The shards of a folder: which ones are finished, and the files skipped in those that this process has seen."""

    def __init__(
        self, images: ImageList, decoder: CroppedImages, folder: Path, encoding: Encoding, max_skipped: float
    ) -> None:
        self._images = images
        self._folder = folder
        self._encoding = encoding
        self._max_skipped = max_skipped
        self._decoder = decoder
        self._skipped: dict[str, str] = {}
        self._class_sizes = {images.classes[label]: size for label, size in Counter(images.labels).items()}

    def images_of(self, number: int) -> range:
        """The indices of a shard's images."""
        start = number * self._encoding.shard_size
        return range(start, min(start + self._encoding.shard_size, len(self._images)))

    def is_finished(self, number: int) -> bool:
        """Whether a shard is complete and up to date.

        It is not if a file that it skipped can be decoded by now, or if this version decodes one of its files to other
        pixels.
        """
        path = shard_path(self._folder, number)
        if not path.with_suffix(".json").exists():
            return False
        try:
            shard = read_shard(path)
        except UserError:
            return False
        if not is_whole(path, shard) or self._was_clipped(shard):
            return False
        skipped = (index for index in self.images_of(number) if self._images.files[index] in shard.skipped)
        if any(self._decoder[index].pixels is not None for index in skipped):
            return False
        self._skipped |= shard.skipped
        return True

    def _was_clipped(self, shard: Shard) -> bool:
        """Whether an earlier version wrote the shard and clipped 16-bit grayscale images to white."""
        if shard.remarks is not None:
            return False
        # JPEG files can't be 16-bit: ImageNet's million need not be opened.
        suspects = (file for file in shard.files if not file.lower().endswith((".jpg", ".jpeg")))
        return any(is_sixteen_bit_png(self._images.folder / file) for file in suspects)

    def write(self, number: int, shard: "_ShardInWork") -> None:
        """Write a finished shard."""
        path = shard_path(self._folder, number)
        moments = torch.cat([torch.empty(0, 2, *self._encoding.moments_shape, dtype=torch.float16), *shard.moments])
        files = [self._images.files[item.index] for item in shard.decoded]
        labels = [self._images.labels[item.index] for item in shard.decoded]
        source_hashes = [item.source_hash for item in shard.decoded]
        skipped = {self._images.files[item.index]: item.error for item in shard.skipped}
        counter = RemarkCounter()
        for file, item in zip(files, shard.decoded, strict=True):
            for remark in item.remarks:
                counter.add(remark, file)
        remarks = {name: Remarked(images=count, first=counter.first[name]) for name, count in counter.counts.items()}
        write_shard(path, moments.numpy(), labels, files, source_hashes, skipped, remarks)
        self._skipped |= skipped

    def check_skipped(self) -> None:
        """Check how many images were skipped in the shards seen so far.

        Raises:
            UserError: too many images, or all of a class, were skipped.
        """
        self._check_classes()
        if len(self._skipped) <= self._max_skipped * len(self._images):
            return
        write_skipped(self._folder, self._skipped)
        first = [f"\n  {file}: {reason}" for file, reason in list(self._skipped.items())[:10]]
        raise UserError(
            f"{len(self._skipped)} of the {len(self._images)} images can't be decoded, more than the allowed fraction "
            f"of {self._max_skipped:g}. {self._folder / SKIPPED} lists all of them so far. Fix them and run the same "
            f"command again, or allow a larger fraction with --max-skipped. The first:{''.join(first)}"
        )

    def _check_classes(self) -> None:
        # Sampling with a label that no image has would silently give meaningless images.
        skipped = Counter(file.partition("/")[0] for file in self._skipped)
        lost = [name for name, count in skipped.items() if count == self._class_sizes[name]]
        if not lost:
            return
        write_skipped(self._folder, self._skipped)
        others = f" and of {len(lost) - 1} more classes" if len(lost) > 1 else ""
        file = min(file for file in self._skipped if file.startswith(f"{lost[0]}/"))
        raise UserError(
            f"No image of the class {lost[0]!r}{others} can be decoded ({file}: {self._skipped[file]}). "
            "Fix them and run the same command again, or remove the class from "
            f"{self._images.folder} and encode into another folder. "
            f"{self._folder / SKIPPED} lists all images so far that can't be decoded."
        )

    def finish(self, stop: Callable[[], bool], wait: Callable[[], None]) -> bool:
        """Wait for all shards, then write the index. Returns False if stopped."""
        for number in range(self._encoding.shards):
            while not self.is_finished(number):
                if stop():
                    return False
                wait()
        self.check_skipped()
        write_index(self._folder, self._encoding, self._images.classes)
        return True


class _ShardInWork:
    """The shard that is being encoded."""

    def __init__(self) -> None:
        self.moments: list[Tensor] = []  # [b, 2, 2C, h, w] float16 each
        self.decoded: list[DecodedImage] = []
        self.skipped: list[DecodedImage] = []

    @torch.inference_mode()
    def add(self, batch: DecodedBatch, moments: Moments, device: torch.device, images: ImageList) -> None:
        """Encode a batch.

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
                "Check tokenizer.checkpoint; it is computed in float32."
            ) from error
        self.moments.append(torch.stack(half.cpu().chunk(2), dim=1))


def _batches(images: range, size: int) -> list[range]:
    return [images[start : start + size] for start in range(0, len(images), size)]


def _decode(decoder: CroppedImages, batches: list[range], workers: int) -> Iterator[DecodedBatch]:
    """The images of each batch in order, decoded by worker processes."""
    loader: DataLoader[DecodedImage] = DataLoader(
        cast(Dataset[DecodedImage], decoder),  # lacks torch's base class, so image_folder needs no torch
        batch_sampler=[list(batch) for batch in batches],
        num_workers=workers,
        collate_fn=collate,
        worker_init_fn=_leave_signals_to_the_main_process,
    )
    return iter(loader)


def _leave_signals_to_the_main_process(_worker: int) -> None:
    # A terminal sends Ctrl-C to all of its processes; only the main one handles it.
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
