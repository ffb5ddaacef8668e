"""Image grids."""

from pathlib import Path

from torch import Tensor

from ear.errors import import_extra
from ear.files.writing import write_atomically

SMALLEST_WIDTH = 32  # pixels of an image in a grid
NARROWEST_GAP = 2


def save_grid(images: Tensor, path: Path, *, columns: int) -> None:
    """Write uint8 images [N, channels, H, W] to a PNG grid, row by row. Small images are enlarged.

    Raises:
        UserError: torchvision is not installed.
    """
    torchvision = import_extra("torchvision.utils", "evaluation")
    scale = -(-SMALLEST_WIDTH // images.shape[-1])
    enlarged = images.repeat_interleave(scale, 2).repeat_interleave(scale, 3).float() / 255
    write_atomically(
        path,
        lambda temporary: torchvision.save_image(
            enlarged, temporary, format="png", nrow=columns, padding=max(NARROWEST_GAP, scale), pad_value=1.0
        ),
    )
