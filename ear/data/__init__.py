"""Datasets of labelled images, each a function that returns an `ImageDataset`."""

from functools import cache

from ear.config.schema import DataConfig
from ear.data.base import ImageDataset, Split, to_uint8, to_unit_range
from ear.data.digits import digits

__all__ = ["ImageDataset", "Split", "load_dataset", "to_uint8", "to_unit_range"]

_DATASETS = {"digits": digits}


@cache
def load_dataset(config: DataConfig) -> ImageDataset:
    """The dataset that the configuration names."""
    return _DATASETS[config.name]()
