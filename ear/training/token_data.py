"""Training data as tokens and labels, indexed by image number.

Dimensions: B images, L tokens, D values per token.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from ear.config import RunConfig
from ear.data import Dataset, ImageDataset, load_dataset, to_unit_range
from ear.data.folder_dataset import FolderDataset
from ear.process.execution import to_device
from ear.tokenizers import KLTokenizer, Tokenizer, build_tokenizer, fitted_tokenizer


class TokenData(ABC):
    """N training images as tokens of a tokenizer."""

    tokenizer: Tokenizer
    labels: Tensor  # [N] int64
    classes: int
    content_hash: str  # of all data that training reads
    tokenizer_hash: str = ""  # of the autoencoder that encoded the cached latents

    def __len__(self) -> int:
        return len(self.labels)

    def draw_augmentation(
        self, images: int, generator: torch.Generator, on_device: torch.Generator
    ) -> tuple[Tensor, ...]:
        """Draw the random augmentation that `tokens` needs for `images` images.

        Args:
            generator: for draws on the CPU.
            on_device: for draws on the device.

        Returns:
            Tensors [images, ...].
        """
        return ()

    @abstractmethod
    def tokens(self, indices: Tensor, augmentation: tuple[Tensor, ...], device: torch.device) -> Tensor:
        """Tokens [B, L, D] float32 on the device, of the images `indices` [B] (on the CPU)."""


class InMemoryTokens(TokenData):
    """All images, encoded once and kept on the device; for datasets of a few megabytes."""

    def __init__(self, dataset: ImageDataset, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.labels = dataset.train.labels
        self.classes = dataset.classes
        self.content_hash = dataset.content_hash()
        self._tokens = tokenizer.encode(to_unit_range(dataset.train.images))

    def tokens(self, indices: Tensor, augmentation: tuple[Tensor, ...], device: torch.device) -> Tensor:
        self._tokens = self._tokens.to(device)
        return self._tokens[to_device(indices, device)]


class LatentTokens(TokenData):
    """A new posterior sample of an image or its mirror image at every access, from cached moments.

    As in the official code, the image is mirrored with probability 1/2 and the posterior noise is standard normal.
    """

    def __init__(self, dataset: FolderDataset, tokenizer: KLTokenizer) -> None:
        self.tokenizer: KLTokenizer = tokenizer
        self.labels = dataset.cache.labels
        self.classes = dataset.classes
        self.content_hash = dataset.content_hash()
        self.tokenizer_hash = dataset.cache.tokenizer_hash
        self._cache = dataset.cache

    def draw_augmentation(
        self, images: int, generator: torch.Generator, on_device: torch.Generator
    ) -> tuple[Tensor, ...]:
        mirrored = torch.rand(images, generator=generator) < 0.5
        channels, height, width = self._cache.moments_shape
        noise = torch.randn(images, channels // 2, height, width, generator=on_device, device=on_device.device)
        return mirrored, noise

    def tokens(self, indices: Tensor, augmentation: tuple[Tensor, ...], device: torch.device) -> Tensor:
        mirrored, noise = augmentation
        moments = to_device(self._cache.moments(indices, mirrored), device)
        return self.tokenizer.tokens_from_moments(moments, noise)


def load_token_data(config: RunConfig, dataset: "Dataset | None" = None) -> TokenData:
    """Load the configured training images as tokens of the configured tokenizer.

    Raises:
        UserError: the dataset is missing or does not fit the configuration.
    """
    dataset = dataset or load_dataset(config.data)
    if isinstance(dataset, FolderDataset):
        tokenizer = build_tokenizer(config)
        assert isinstance(tokenizer, KLTokenizer)
        return LatentTokens(dataset, tokenizer)
    return InMemoryTokens(dataset, fitted_tokenizer(config, dataset))
