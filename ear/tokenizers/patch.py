"""Square pixel patches as tokens, standardised per dimension or reduced to their principal components."""

from collections.abc import Iterator

import torch
from torch import Tensor

from ear.errors import UserError
from ear.tokenizers.base import Tokenizer


def patchify(images: Tensor, patch_size: int) -> Tensor:
    """Split images [B, C, H, W] into patches [B, (H/p)(W/p), C p p], in raster order, each channel-major."""
    batch, channels, height, width = images.shape
    rows, columns = height // patch_size, width // patch_size
    grid = images.reshape(batch, channels, rows, patch_size, columns, patch_size)
    return grid.permute(0, 2, 4, 1, 3, 5).reshape(batch, rows * columns, channels * patch_size**2)


def unpatchify(tokens: Tensor, patch_size: int, image_shape: tuple[int, int, int]) -> Tensor:
    """Join patches to images of `image_shape` = (C, H, W); the inverse of `patchify`."""
    channels, height, width = image_shape
    rows, columns = height // patch_size, width // patch_size
    grid = tokens.reshape(-1, rows, columns, channels, patch_size, patch_size)
    return grid.permute(0, 3, 1, 4, 2, 5).reshape(-1, channels, height, width)


class PatchTokenizer(Tokenizer):
    """Standardised pixel patches: token = (patch - mean) / std, or (patch - mean) V / std with `components` = k.

    The statistics are over all positions of the training images. The columns of V [P, k] are the k leading
    eigenvectors of the patches' covariance, and std [k] are the roots of its eigenvalues, so tokens are principal
    components of unit variance. Decoding restores the patch up to the omitted components.
    """

    mean: Tensor  # [P], P = channels * patch_size^2
    std: Tensor  # [D]
    directions: Tensor  # V [P, D]; only with `components`

    def __init__(self, image_shape: tuple[int, int, int], patch_size: int, components: int | None = None) -> None:
        """`image_shape` is (channels, height, width).

        Raises:
            UserError: patches do not divide the image, or have fewer values than `components`.
        """
        super().__init__()
        channels, height, width = image_shape
        if height % patch_size or width % patch_size:
            raise UserError(f"tokenizer.patch_size: {patch_size} does not divide the image's {height}x{width} pixels.")
        values = channels * patch_size**2
        if components is not None and components > values:
            raise UserError(
                f"tokenizer.components: {components} exceeds the {values} values of a patch "
                f"({channels} x {patch_size} x {patch_size}); give at most {values}, or omit it to keep all."
            )
        self.image_shape = image_shape
        self.patch_size = patch_size
        self.components = components
        self.tokens = (height // patch_size) * (width // patch_size)
        self.token_dim = components or values
        self.register_buffer("mean", torch.zeros(values))
        self.register_buffer("std", torch.ones(self.token_dim))
        if components is not None:
            self.register_buffer("directions", torch.eye(values, components))

    def fit(self, images: Tensor) -> "PatchTokenizer":
        """Compute the statistics of images [N, C, H, W] in [-1, 1]. A constant dimension is only centred."""
        if self.components is not None:
            return self._fit_components(images, self.components)
        patches = patchify(images, self.patch_size).flatten(0, 1).double()
        std, mean = torch.std_mean(patches, dim=0, correction=0)
        self.mean.copy_(mean)
        self.std.copy_(torch.where(std > 0, std, torch.ones_like(std)))
        return self

    def _fit_components(self, images: Tensor, components: int) -> "PatchTokenizer":
        mean, covariance = _moments(images, self.patch_size)
        variances, directions = torch.linalg.eigh(covariance)  # ascending
        variances, directions = variances.flip(0)[:components], directions.flip(1)[:, :components]
        # The sign of an eigenvector is arbitrary, so make its entry of largest magnitude positive.
        largest = directions.gather(0, directions.abs().argmax(dim=0, keepdim=True))
        # Do not scale rounding noise of a zero variance up to unit variance.
        rounding = len(mean) * torch.finfo(variances.dtype).eps * variances[0]
        self.mean.copy_(mean)
        self.directions.copy_(directions * largest.sign())
        self.std.copy_(torch.where(variances > rounding, variances, torch.ones_like(variances)).sqrt())
        return self

    def encode(self, images: Tensor) -> Tensor:
        centred = patchify(images, self.patch_size) - self.mean
        return (centred if self.components is None else centred @ self.directions) / self.std

    def decode(self, tokens: Tensor) -> Tensor:
        centred = tokens * self.std
        if self.components is not None:
            centred = centred @ self.directions.T
        return unpatchify(centred + self.mean, self.patch_size, self.image_shape)


def _moments(images: Tensor, patch_size: int, batch_size: int = 5000) -> tuple[Tensor, Tensor]:
    """Mean [P] and covariance [P, P] of all patches, in float64, computed in batches of images."""

    def batches() -> Iterator[Tensor]:
        for batch in torch.split(images, batch_size):
            yield patchify(batch, patch_size).flatten(0, 1).double()

    count = sum(len(patches) for patches in batches())
    mean = torch.stack([patches.sum(dim=0) for patches in batches()]).sum(dim=0) / count
    products = [(patches - mean).T @ (patches - mean) for patches in batches()]
    return mean, torch.stack(products).sum(dim=0) / count
