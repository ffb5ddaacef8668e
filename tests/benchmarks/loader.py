"""Reading cached latents: our shards against the official code's npz file an image, in one run.

Synthetic entries of KL-16's shape at 256 pixels. Both lie in the page cache; a round reads every entry once, in the
same shuffled batches of 256 with labels, the image or its mirror at random. Rounds alternate, since machines drift.
Prints figures; judges nothing.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ear.data.latent_files import Encoding, shard_path
from ear.data.latent_writing import write_index, write_shard
from ear.data.latents import LatentCache

MOMENTS = (32, 16, 16)
CLASSES = 100
BATCH = 256
SHARD = 4096
ROUNDS = 5


class NpzFiles(Dataset[tuple[np.ndarray, int]]):
    """As the official code reads its cache: a file an image, of which one array is read."""

    def __init__(self, files: list[Path], labels: Tensor) -> None:
        self._files = [str(file) for file in files]
        self._labels = labels.tolist()

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        with np.load(self._files[index]) as data:
            return data["moments_flip" if torch.rand(1) < 0.5 else "moments"], self._labels[index]


def entries_of(labels: Tensor, shape: tuple[int, int, int] = MOMENTS) -> Iterator[np.ndarray]:
    """Moments [2 (image, mirror), 2C, h, w] float32 of each entry."""
    generator = np.random.default_rng(0)
    return (generator.standard_normal((2, *shape), dtype=np.float32) for _ in labels)


def write_npz(folder: Path, labels: Tensor) -> list[Path]:
    files = [folder / f"class-{label:03d}" / f"{number:06d}.npz" for number, label in enumerate(labels.tolist())]
    for file, (moments, mirror) in zip(files, entries_of(labels), strict=True):
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(file, moments=moments, moments_flip=mirror)
    return files


def write_cache(
    folder: Path, labels: Tensor, classes: int = CLASSES, shape: tuple[int, int, int] = MOMENTS
) -> LatentCache:
    names = [f"class-{label:03d}/{number:06d}.JPEG" for number, label in enumerate(labels.tolist())]
    entries = entries_of(labels, shape)
    for number, start in enumerate(range(0, len(labels), SHARD)):
        part = slice(start, start + SHARD)
        moments = np.stack([next(entries).astype(np.float16) for _ in names[part]])
        hashes = ["0" * 64] * len(moments)
        write_shard(shard_path(folder, number), moments, labels[part].tolist(), names[part], hashes, {})
    encoding = Encoding(
        tokenizer_hash="",
        crop="",
        size=256,
        moments_shape=shape,
        shard_size=SHARD,
        listed=len(labels),
        names_hash="",
    )
    write_index(folder, encoding, tuple(f"class-{label:03d}" for label in range(classes)))
    return LatentCache.open(folder)


def read_cache(cache: LatentCache, batches: list[Tensor]) -> None:
    for indices in batches:
        moments, labels = cache.moments(indices, torch.rand(len(indices)) < 0.5), cache.labels[indices]
        assert len(moments) == len(labels)


def read_npz(files: NpzFiles, batches: list[Tensor], workers: int) -> None:
    loader = DataLoader(files, batch_sampler=[indices.tolist() for indices in batches], num_workers=workers)
    for moments, labels in loader:
        assert len(moments) == len(labels)


def seconds_per_thousand(read: Callable[[], None], entries: int) -> float:
    started = time.perf_counter()
    read()
    return (time.perf_counter() - started) * 1000 / entries


def space(folder: Path) -> float:
    """GB on disk of the files in a folder."""
    return sum(file.stat().st_blocks * 512 for file in folder.rglob("*") if file.is_file()) / 1e9


def loader(entries: int = 20_000) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    labels = torch.arange(entries) * CLASSES // entries
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = NpzFiles(write_npz(folder / "npz", labels), labels)
        cache = write_cache(folder / "cache", labels)
        times: dict[str, list[float]] = {"ours": [], "npz": [], "npz, 2 workers": []}
        for turn in range(ROUNDS + 1):
            batches = list(torch.randperm(entries).split(BATCH))
            readers = {
                "ours": lambda: read_cache(cache, batches),  # noqa: B023
                "npz": lambda: read_npz(files, batches, workers=0),  # noqa: B023
                "npz, 2 workers": lambda: read_npz(files, batches, workers=2),  # noqa: B023
            }
            for reader, read in readers.items():
                taken = seconds_per_thousand(read, entries)
                if turn > 0:  # the first one warms up
                    times[reader].append(taken)
        sizes = space(folder / "npz"), space(folder / "cache")
    print(
        f"reading {entries} cached latents in shuffled batches of {BATCH}, {ROUNDS} rounds; seconds per 1,000 entries:"
    )
    for reader, values in times.items():
        ratios = [other / ours for other, ours in zip(values, times["ours"], strict=True)]
        print(f"  {reader}: {spread(values, 4)}" + (f"; / ours: {spread(ratios, 1)}" if reader != "ours" else ""))
    print(f"  space: npz {sizes[0]:.2f} GB, ours {sizes[1]:.2f} GB, ratio {sizes[0] / sizes[1]:.2f}")


def spread(values: list[float], digits: int) -> str:
    return f"median {statistics.median(values):.{digits}f} (min {min(values):.{digits}f}, max {max(values):.{digits}f})"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=20_000)
    loader(parser.parse_args().entries)
