"""Datasets of labelled images."""

from functools import cache

from ear.config.schema import DataConfig, DigitsData, FashionMnistData, ImageFolderData
from ear.data.base import ImageDataset, Split, to_uint8, to_unit_range
from ear.data.digits import digits
from ear.data.fashion_mnist import fashion_mnist
from ear.data.folder_dataset import FolderDataset

__all__ = ["Dataset", "FolderDataset", "ImageDataset", "Split", "load_dataset", "to_uint8", "to_unit_range"]

Dataset = ImageDataset | FolderDataset


@cache
def load_dataset(config: DataConfig) -> Dataset:
    """Load the configured dataset. A process loads each one only once.

    Raises:
        UserError: its files are missing or damaged.
    """
    match config:
        case DigitsData():
            return digits()
        case FashionMnistData():
            return fashion_mnist(config.path)
        case ImageFolderData():
            return FolderDataset(config)
