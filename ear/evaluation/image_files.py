"""Generated images as files, for whoever wants to see or measure them elsewhere."""

from pathlib import Path

from torch import Tensor

from ear.errors import import_extra
from ear.files import require_writable


class ImageFiles:
    """PNG files in a folder, named by number and class: 000123-0207.png, or 000123-null.png."""

    def __init__(self, folder: Path) -> None:
        """
        Raises:
            UserError: the folder can't be written.
        """
        require_writable(folder, "--keep-images DIR")
        self._folder = folder
        self._io = import_extra("torchvision.io", "evaluation")

    def write(self, images: Tensor, labels: Tensor | None, first: int) -> None:
        """Writes uint8 images [b, channels, H, W], numbered from `first`; `labels` are those of all images."""
        for number, image in enumerate(images, start=first):
            label = "null" if labels is None else f"{int(labels[number]):04d}"
            self._io.write_png(image, str(self._folder / f"{number:06d}-{label}.png"), compression_level=1)
