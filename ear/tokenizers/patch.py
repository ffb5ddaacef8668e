"""Square pixel patches as tokens, standardised per dimension."""

import torch
from torch import Tensor

from ear.errors import UserError
from ear.tokenizers.base import Tokenizer


def patchify(images: Tensor, patch_size: int) -> Tensor:
    """[B, C, H, W] -> [B, (H/p)(W/p), C p p]: raster order of patches, within one channel-major."""
    batch, channels, height, width = images.shape
    rows, columns = height // patch_size, width // patch_size
    grid = images.reshape(batch, channels, rows, patch_size, columns, patch_size)
    return grid.permute(0, 2, 4, 1, 3, 5).reshape(batch, rows * columns, channels * patch_size**2)


def unpatchify(tokens: Tensor, patch_size: int, image_shape: tuple[int, int, int]) -> Tensor:
    """The inverse of `patchify` for images of `image_shape` = (C, H, W)."""
    channels, height, width = image_shape
    rows, columns = height // patch_size, width // patch_size
    grid = tokens.reshape(-1, rows, columns, channels, patch_size, patch_size)
    return grid.permute(0, 3, 1, 4, 2, 5).reshape(-1, channels, height, width)


class PatchTokenizer(Tokenizer):
    """token = (patch - mean) / std, with mean and std [D] over all positions of the training images."""

    mean: Tensor
    std: Tensor

    def __init__(self, image_shape: tuple[int, int, int], patch_size: int) -> None:
        """
        Raises:
            UserError: the patch does not divide the image.
        """
        super().__init__()
        channels, height, width = image_shape
        if height % patch_size or width % patch_size:
            raise UserError(f"tokenizer.patch_size: {patch_size} does not divide the image's {height}x{width} pixels.")
        self.image_shape = image_shape
        self.patch_size = patch_size
        self.tokens = (height // patch_size) * (width // patch_size)
        self.token_dim = channels * patch_size**2
        self.register_buffer("mean", torch.zeros(self.token_dim))
        self.register_buffer("std", torch.ones(self.token_dim))

    def fit(self, images: Tensor) -> "PatchTokenizer":
        """Takes mean and std from images [N, C, H, W] in [-1, 1]; a constant dimension is only centred."""
        patches = patchify(images, self.patch_size).flatten(0, 1).double()
        std, mean = torch.std_mean(patches, dim=0, correction=0)
        self.mean.copy_(mean)
        self.std.copy_(torch.where(std > 0, std, torch.ones_like(std)))
        return self

    def encode(self, images: Tensor) -> Tensor:
        return (patchify(images, self.patch_size) - self.mean) / self.std

    def decode(self, tokens: Tensor) -> Tensor:
        return unpatchify(tokens * self.std + self.mean, self.patch_size, self.image_shape)
