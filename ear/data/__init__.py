"""Datasets of labelled images. Importing this package does not import torch."""

from functools import cache
from typing import TYPE_CHECKING, TypeAlias

from ear.config.schema import DataConfig, DigitsData, FashionMnistData, ImageFolderData
from ear.data.base import ImageDataset, Split, to_uint8, to_unit_range

if TYPE_CHECKING:
    from ear.data.folder_dataset import FolderDataset

__all__ = ["Dataset", "ImageDataset", "Split", "load_dataset", "to_uint8", "to_unit_range"]

Dataset: TypeAlias = "ImageDataset | FolderDataset"


@cache
def load_dataset(config: DataConfig) -> Dataset:
    """Load the configured dataset. A process loads each one only once.

    Raises:
        UserError: its files are missing or damaged.
    """
    match config:
        case DigitsData():
            from ear.data.digits import digits

            return digits()
        case FashionMnistData():
            from ear.data.fashion_mnist import fashion_mnist

            return fashion_mnist(config.path)
        case ImageFolderData():
            from ear.data.folder_dataset import FolderDataset

            return FolderDataset(config)
