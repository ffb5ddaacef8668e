"""An image folder and its cache, for whoever encodes or reads one; an empty store."""

from pathlib import Path

import pytest
from encoding_parts import encode, write_images

from ear.store import Store


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 images: 5 shards, the last of 4."""
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def whole(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache of an undisturbed encoding. Not to be changed."""
    folder = tmp_path_factory.mktemp("cache")
    assert encode(source, folder)
    return folder


@pytest.fixture
def cache_folder(source: Path, tmp_path: Path) -> Path:
    """One to be damaged."""
    assert encode(source, tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "root")
