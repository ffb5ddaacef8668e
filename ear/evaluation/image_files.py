"""Writes generated images as PNG files, for other programs."""

import re
from pathlib import Path

from torch import Tensor

from ear.errors import UserError, import_extra
from ear.files.writing import require_writable, write_text

MARK = "evaluation.key"  # file beside the images with the key of their evaluation
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
OWN = re.compile(r"\d{6,}-(\d{4,}|null)\.png")


def begin_folder(folder: Path, key: str) -> None:
    """Prepare a folder for the images of the evaluation with this key; removes images of an interrupted one.

    Raises:
        UserError: it can't be written, or it contains other images, which would be mixed with the new ones.
    """
    require_writable(folder, "--keep-images DIR")
    mark = folder / MARK
    is_own = mark.is_file() and mark.read_text(encoding="utf-8", errors="replace").strip() == key
    there = [path for path in folder.iterdir() if path.suffix.lower() in IMAGES]
    if other := sorted(path.name for path in there if not (is_own and OWN.fullmatch(path.name))):
        raise UserError(
            f"--keep-images {folder}: the folder already contains other images ({other[0]}, {len(other)} in all): give "
            "a new or empty folder."
        )
    for path in there:
        path.unlink()
    write_text(mark, key + "\n")


class ImageFiles:
    """Writes images as PNG files named by number and class: 000123-0207.png, or 000123-null.png."""

    def __init__(self, folder: Path) -> None:
        """`folder` must have been prepared by `begin_folder`."""
        self._folder = folder
        self._io = import_extra("torchvision.io", "evaluation")

    def write(self, images: Tensor, labels: Tensor | None, first: int) -> None:
        """Write uint8 images [b, channels, H, W], numbered from `first`. `labels` are those of all images."""
        for number, image in enumerate(images, start=first):
            label = "null" if labels is None else f"{int(labels[number]):04d}"
            self._io.write_png(image, str(self._folder / f"{number:06d}-{label}.png"), compression_level=1)
