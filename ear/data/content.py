"""Content hashes of a dataset, which are part of every result's key. Once computed, they need no loaded dataset.

Digits and Fashion-MNIST are loaded by libraries whose import alone takes seconds, always to the same arrays. So the
hashes of these arrays are cached under the hashes of the dataset's files, which are small.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from ear.config.schema import DataConfig, DigitsData, FashionMnistData, ImageFolderData
from ear.data import load_dataset
from ear.errors import UserError
from ear.files.hashes import cached_sha256
from ear.process.user_cache import cache_folder, remembered

LIBRARIES = ("numpy", "scikit-learn", "torch")  # that load and split the arrays
SPLITS = ("train", "test")
CONTENTS = "contents"  # folder of the cache


class DatasetContent(Protocol):
    """The hashes of a dataset that keys are made of."""

    def content_hash(self) -> str:
        """Hash of everything that training can see."""
        ...

    def split_hash(self, name: str) -> str:
        """Hash of the real images that evaluations compare with."""
        ...


@dataclass(frozen=True)
class KnownContent:
    """Hashes of a dataset's arrays."""

    whole: str
    splits: Mapping[str, str]

    def content_hash(self) -> str:
        return self.whole

    def split_hash(self, name: str) -> str:
        return self.splits[name]


@cache
def dataset_content(config: DataConfig) -> DatasetContent:
    """The content hashes of the dataset that a configuration names.

    Raises:
        UserError: its files are missing or damaged.
    """
    if isinstance(config, ImageFolderData):
        return load_dataset(config)  # reads no file before a hash is needed

    def compute() -> KnownContent:
        return content_of(load_dataset(config))

    try:
        hashes = [cached_sha256(file) for file in _files(config)]
    except OSError:  # loading the dataset raises the better message
        return compute()
    return remembered(CONTENTS, [config.name, hashes], LIBRARIES, compute, to_json=asdict, from_json=_from_json)


def content_of(dataset: DatasetContent) -> KnownContent:
    """Compute the content hashes of a loaded dataset from its arrays."""
    return KnownContent(dataset.content_hash(), {name: dataset.split_hash(name) for name in SPLITS})


def require_as_known(config: DataConfig, dataset: DatasetContent) -> None:
    """Check the cached hashes against a loaded dataset, before results are computed and stored under them.

    Raises:
        UserError: they differ, for example since the cache was edited.
    """
    known = dataset_content(config)
    if isinstance(known, KnownContent) and known != content_of(dataset):
        raise UserError(
            f"The cached content hashes of the dataset {config.name} are wrong: delete {cache_folder() / CONTENTS} and "
            "run the same command again."
        )


def _files(config: DigitsData | FashionMnistData) -> Sequence[Path]:
    """The files that the dataset is read from, in a fixed order.

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
        raise ValueError("not a SHA-256 hash")
    return found
