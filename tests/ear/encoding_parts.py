"""Folders of small images, and their encoding by an autoencoder in closed form."""

import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from processes import SERVER
from torch import Tensor
from torch.nn.functional import avg_pool2d

from ear.data.encode import encode_folder
from ear.data.image_folder import list_images

SIZE = 16


SHAPES = [(16, 16), (40, 24), (23, 31), (70, 90), (12, 20)]  # (width, height)


def noise_image(width: int, height: int, seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(256, size=(height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def write_images(folder: Path, classes: int = 3, per_class: int = 8) -> Path:
    """Images of several shapes, PNG and JPEG in turn."""
    for label in range(classes):
        (folder / f"class-{label}").mkdir(parents=True)
        for number in range(per_class):
            seed = label * per_class + number
            image = noise_image(*SHAPES[seed % len(SHAPES)], seed)
            image.save(folder / f"class-{label}" / f"{number:02d}.{'png' if number % 2 else 'JPEG'}")
    return folder


def pooled(images: Tensor) -> Tensor:
    """An autoencoder in closed form: means are averages of 4x4 pixels, log-variances their doubles less 1."""
    mean = avg_pool2d(images, 4)
    return torch.cat([mean, 2 * mean - 1], dim=1)


def encode(source: Path, folder: Path, seconds: float = 0.0, **settings: Any) -> bool:
    def slowly(images: Tensor) -> Tensor:
        time.sleep(seconds)
        return pooled(images)

    settings = {
        "tokenizer_hash": "a" * 64,
        "size": SIZE,
        "shard_size": 5,
        "batch_size": 2,
        "moments": slowly,
    } | settings
    return encode_folder(list_images(source), folder, **settings)


def encode_elsewhere(source: Path, folder: Path, **settings: Any) -> BaseProcess:
    """The same in a process of its own."""
    process = SERVER.Process(target=encode, args=(source, folder), kwargs=settings)
    process.start()
    return process


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def cut(path: Path) -> None:
    """Truncates a file."""
    path.write_bytes(path.read_bytes()[:-40])
