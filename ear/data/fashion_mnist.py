"""Zalando's Fashion-MNIST (Xiao et al. 2017): 70,000 grayscale images of 28x28 pixels, 10 classes, four idx files."""

from pathlib import Path
from typing import TYPE_CHECKING

from ear.data.base import ImageDataset, Split
from ear.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DEBIAN_FOLDER = "/usr/share/datasets/fashion-mnist"  # where the package dataset-fashion-mnist installs the files
CLASSES = 10
SIDE = 28


def fashion_mnist_files(path: str | None = None) -> tuple[Path, ...]:
    """The paths of the four files, in the given folder or in Debian's.

    Raises:
        UserError: one is missing.
    """
    folder = Path(path or DEBIAN_FOLDER)
    kinds = ("images-idx3-ubyte", "labels-idx1-ubyte")
    return tuple(_find(folder, f"{prefix}-{kind}") for prefix in ("train", "t10k") for kind in kinds)


def fashion_mnist(path: str | None = None) -> ImageDataset:
    """Load Fashion-MNIST: 60,000 training and 10,000 held-out images, as published.

    Args:
        path: folder of the files, gzipped or not. Default: the folder of the Debian package.

    Raises:
        UserError: a file is missing, damaged or not Fashion-MNIST.
    """
    folder = Path(path or DEBIAN_FOLDER)
    return ImageDataset(
        name="fashion_mnist",
        classes=CLASSES,
        train=read_split(folder, "train", images=60_000),
        test=read_split(folder, "t10k", images=10_000),
    )


def read_split(folder: Path, prefix: str, images: int) -> Split:
    """Load the split whose files start with `prefix` (`train`, `t10k`) and that must have `images` images.

    Raises:
        UserError: a file is missing, damaged or not Fashion-MNIST.
    """
    import torch

    images_path = _find(folder, f"{prefix}-images-idx3-ubyte")
    labels_path = _find(folder, f"{prefix}-labels-idx1-ubyte")
    pixels = _read(images_path, 3)
    labels = _read(labels_path, 1)
    if pixels.shape[1:] != (SIDE, SIDE):
        raise _wrong(images_path, f"its images have {pixels.shape[1]}x{pixels.shape[2]} pixels, not {SIDE}x{SIDE}")
    if len(pixels) != len(labels):
        raise _wrong(labels_path, f"it has {len(labels)} labels for the {len(pixels)} images of {images_path.name}")
    if len(pixels) != images:
        raise _wrong(images_path, f"it has {len(pixels)} images, not Fashion-MNIST's {images}")
    if labels.max() >= CLASSES:
        raise _wrong(labels_path, f"it has the label {labels.max()}; the classes are 0 to {CLASSES - 1}")
    return Split(torch.tensor(pixels).unsqueeze(1), torch.tensor(labels, dtype=torch.int64))


def _find(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.exists():
            return path
    raise _wrong(folder / name, "the file is missing, and so is the one with .gz")


def _read(path: Path, dimensions: int) -> "NDArray[np.uint8]":
    from ear.data.idx import read_idx  # imports numpy

    try:
        return read_idx(path, dimensions)
    except OSError as error:
        raise _wrong(path, f"it can't be read ({error.strerror or error})") from error
    except ValueError as error:
        raise _wrong(path, str(error)) from error


def _wrong(path: Path, fault: str) -> UserError:
    return UserError(
        f"{path}: {fault}. Install Fashion-MNIST's files with `apt-get install dataset-fashion-mnist`, or give the "
        "folder that has them with `--set data.path=FOLDER`."
    )
