"""Writes a cache of latents (`ear.data.latent_files`): shards, the list of skipped files, the index.

Dimensions: B images, C latent channels, h x w latents.
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ear.data.decode import Remark
from ear.data.latent_files import (
    INDEX,
    SKIPPED,
    Encoding,
    Index,
    Remarked,
    Shard,
    ShardInfo,
    content_hash_of,
    read_shard,
    shard_path,
)
from ear.files.hashes import file_sha256
from ear.files.writing import write_atomically, write_text

LOG_VARIANCE_RANGE = (-30.0, 20.0)  # the range to which autoencoders clamp it for sampling; it fits half precision


def to_half(moments: Tensor) -> Tensor:
    """Convert moments [B, 2C, h, w] to float16, with log-variances clamped to `LOG_VARIANCE_RANGE`.

    Raises:
        ValueError: they are not finite, or means exceed the range of float16.
    """
    mean, log_variance = moments.float().chunk(2, dim=1)
    half = torch.cat([mean, log_variance.clamp(*LOG_VARIANCE_RANGE)], dim=1).half()
    # The clamp turns an infinite log-variance into a finite one, so the unclamped one is checked.
    if not (half.isfinite().all() and log_variance.isfinite().all()):
        raise ValueError(f"moments are not finite or exceed float16: the largest is {moments.abs().max():g}")
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
    """Write a shard's moments [rows, 2, 2C, h, w], then its record, without which the shard does not count."""

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


def write_index(folder: Path, encoding: Encoding, classes: tuple[str, ...]) -> None:
    """Write the index of a folder with all shards, which makes it a complete cache."""
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
    """Write the list of skipped files with reasons."""
    write_text(folder / SKIPPED, "".join(f"{file}\t{reason}\n" for file, reason in skipped.items()))
