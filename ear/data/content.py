"""A dataset's content, by whose hashes results are kept: known without loading the dataset, once they were computed.

Datasets that are read whole (digits, Fashion-MNIST) are loaded by libraries whose import alone takes seconds, to the
same arrays each time. So what their arrays' hashes are is remembered by the hashes of their files, which are small.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from ear.config.hashing import sha256
from ear.config.schema import DataConfig, DigitsData, FashionMnistData, ImageFolderData
from ear.data import load_dataset
from ear.errors import UserError
from ear.files.memory import cache_folder, remembered

LIBRARIES = ("numpy", "scikit-learn", "torch")  # that arrays are made and split with
SPLITS = ("train", "test")
CONTENTS = "contents"  # the folder of what is remembered


class DatasetContent(Protocol):
    """What keys need to know of a dataset."""

    def content_hash(self) -> str:
        """Hash of everything that training can see."""
        ...

    def split_hash(self, name: str) -> str:
        """Hash of the real images that evaluations compare with."""
        ...


@dataclass(frozen=True)
class KnownContent:
    """The hashes of a dataset's arrays."""

    whole: str
    splits: Mapping[str, str]

    def content_hash(self) -> str:
        return self.whole

    def split_hash(self, name: str) -> str:
        return self.splits[name]


@cache
def dataset_content(config: DataConfig) -> DatasetContent:
    """Of the dataset that the configuration names.

    Raises:
        UserError: its files are missing or damaged.
    """
    if isinstance(config, ImageFolderData):
        return load_dataset(config)  # opens nothing before it is asked

    def compute() -> KnownContent:
        return content_of(load_dataset(config))

    try:
        hashes = [sha256(file) for file in _files(config)]
    except OSError:  # what is wrong, whoever loads it says better
        return compute()
    return remembered(CONTENTS, [config.name, hashes], LIBRARIES, compute, to_json=asdict, from_json=_from_json)


def content_of(dataset: DatasetContent) -> KnownContent:
    """Of a dataset that is loaded, by its arrays."""
    return KnownContent(dataset.content_hash(), {name: dataset.split_hash(name) for name in SPLITS})


def require_as_known(config: DataConfig, dataset: DatasetContent) -> None:
    """For whoever has loaded the dataset, and is about to compute what is kept by its remembered hashes.

    Raises:
        UserError: they are not its own, as where somebody has changed what is remembered.
    """
    known = dataset_content(config)
    if isinstance(known, KnownContent) and known != content_of(dataset):
        raise UserError(
            f"What is remembered of the dataset {config.name} is not its content: delete {cache_folder() / CONTENTS}, "
            "then run the same command again."
        )


def _files(config: DigitsData | FashionMnistData) -> Sequence[Path]:
    """That the dataset is read from, in a fixed order.

    Raises:
        UserError: one is missing.
    """
    match config:
        case DigitsData():
            from ear.data.digits import digits_file

            return (digits_file(),)
        case FashionMnistData():
            from ear.data.fashion_mnist import fashion_mnist_files

            return fashion_mnist_files(config.path)


def _from_json(value: Any) -> KnownContent:
    found = KnownContent(str(value["whole"]), {name: str(value["splits"][name]) for name in SPLITS})
    if not all(len(bytes.fromhex(each)) == 32 for each in (found.whole, *found.splits.values())):
        raise ValueError("these are no SHA-256")
    return found
