"""Generated images as files, for whoever wants to see or measure them elsewhere."""

import re
from pathlib import Path

from torch import Tensor

from ear.errors import UserError, import_extra
from ear.files.writing import require_writable, write_text

MARK = "evaluation.key"  # beside the images: whose they are
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
OWN = re.compile(r"\d{6,}-(\d{4,}|null)\.png")


def begin_folder(folder: Path, key: str) -> None:
    """Makes the folder ready for the images of the evaluation of this key; what an interrupted one left goes.

    Raises:
        UserError: it can't be written, or holds other images, with which whoever reads the folder would mix these.
    """
    require_writable(folder, "--keep-images DIR")
    mark = folder / MARK
    is_own = mark.is_file() and mark.read_text(encoding="utf-8", errors="replace").strip() == key
    there = [path for path in folder.iterdir() if path.suffix.lower() in IMAGES]
    if other := sorted(path.name for path in there if not (is_own and OWN.fullmatch(path.name))):
        raise UserError(
            f"--keep-images {folder}: the folder holds other images already ({other[0]}, {len(other)} in all): give a "
            "new or an empty one."
        )
    for path in there:
        path.unlink()
    write_text(mark, key + "\n")


class ImageFiles:
    """PNG files in a folder, named by number and class: 000123-0207.png, or 000123-null.png."""

    def __init__(self, folder: Path) -> None:
        """In a folder that `begin_folder` made ready."""
        self._folder = folder
        self._io = import_extra("torchvision.io", "evaluation")

    def write(self, images: Tensor, labels: Tensor | None, first: int) -> None:
        """Writes uint8 images [b, channels, H, W], numbered from `first`; `labels` are those of all images."""
        for number, image in enumerate(images, start=first):
            label = "null" if labels is None else f"{int(labels[number]):04d}"
            self._io.write_png(image, str(self._folder / f"{number:06d}-{label}.png"), compression_level=1)
