"""Tokenizers: images to continuous tokens and back."""

from ear.config.schema import TokenizerConfig
from ear.data.base import ImageDataset, to_unit_range
from ear.tokenizers.base import Tokenizer
from ear.tokenizers.patch import PatchTokenizer

__all__ = ["Tokenizer", "build_tokenizer"]


def build_tokenizer(config: TokenizerConfig, dataset: ImageDataset) -> Tokenizer:
    """The tokenizer that the configuration names, fitted to the training images where it learns from them."""
    tokenizer = PatchTokenizer(dataset.image_shape, config.patch_size)
    return tokenizer.fit(to_unit_range(dataset.train.images))
