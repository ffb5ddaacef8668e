"""Sheets of sample images."""

from pathlib import Path

from torch import Tensor

from ear.errors import import_extra
from ear.files import write_atomically


def save_grid(images: Tensor, path: Path, *, columns: int, scale: int = 4) -> None:
    """A PNG of uint8 images [N, channels, H, W], row by row, each pixel `scale` pixels wide.

    Raises:
        UserError: torchvision is not installed.
    """
    torchvision = import_extra("torchvision.utils", "evaluation")
    enlarged = images.repeat_interleave(scale, 2).repeat_interleave(scale, 3).float() / 255
    write_atomically(
        path,
        lambda temporary: torchvision.save_image(
            enlarged, temporary, format="png", nrow=columns, padding=scale, pad_value=1.0
        ),
    )
