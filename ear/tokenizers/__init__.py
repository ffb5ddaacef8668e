"""Tokenizers, which turn images into continuous tokens and back."""

from ear.config.schema import KLTokenizerConfig, RunConfig
from ear.data import Dataset, ImageDataset, to_unit_range
from ear.tokenizers.base import Tokenizer
from ear.tokenizers.kl import KLTokenizer
from ear.tokenizers.patch import PatchTokenizer

__all__ = ["KLTokenizer", "Tokenizer", "build_tokenizer", "fitted_tokenizer"]


def build_tokenizer(config: RunConfig) -> Tokenizer:
    """Build the configured tokenizer, not yet fitted.

    A patch tokenizer must be fitted (`fitted_tokenizer`) or loaded from a checkpoint before use.
    """
    if isinstance(config.tokenizer, KLTokenizerConfig):
        return KLTokenizer(config.tokenizer, config.data.image_shape)
    return PatchTokenizer(config.data.image_shape, config.tokenizer.patch_size, config.tokenizer.components)


def fitted_tokenizer(config: RunConfig, dataset: Dataset) -> Tokenizer:
    """Build the configured tokenizer, fitted to the training images if it is a patch tokenizer."""
    tokenizer = build_tokenizer(config)
    if isinstance(tokenizer, PatchTokenizer) and isinstance(dataset, ImageDataset):
        tokenizer.fit(to_unit_range(dataset.train.images))
    return tokenizer
