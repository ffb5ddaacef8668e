"""Tokenizers: images to continuous tokens and back."""

from ear.config.schema import KLTokenizerConfig, RunConfig
from ear.data import Dataset, ImageDataset, to_unit_range
from ear.tokenizers.base import Tokenizer
from ear.tokenizers.kl import KLTokenizer
from ear.tokenizers.patch import PatchTokenizer

__all__ = ["KLTokenizer", "Tokenizer", "build_tokenizer", "fitted_tokenizer"]


def build_tokenizer(config: RunConfig) -> Tokenizer:
    """The tokenizer that the configuration names. One that learns from images still has to: see `fitted_tokenizer`,
    or load what a checkpoint saved of it."""
    if isinstance(config.tokenizer, KLTokenizerConfig):
        return KLTokenizer(config.tokenizer, config.data.image_shape)
    return PatchTokenizer(config.data.image_shape, config.tokenizer.patch_size, config.tokenizer.components)


def fitted_tokenizer(config: RunConfig, dataset: Dataset) -> Tokenizer:
    """The same, fitted to the training images where it learns from them."""
    tokenizer = build_tokenizer(config)
    if isinstance(tokenizer, PatchTokenizer) and isinstance(dataset, ImageDataset):
        tokenizer.fit(to_unit_range(dataset.train.images))
    return tokenizer
