"""An image folder and its cache, for whoever encodes or reads one; stores; networks that judge images."""

from pathlib import Path

import pytest
from encoding_parts import encode, write_images
from made_once import made_once

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


@pytest.fixture(scope="session")
def inception_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """torch-fidelity's Inception with random weights. Not to be changed."""
    from inception import write_random_inception

    return made_once("inception", lambda folder: write_random_inception(folder / "x.pth"), tmp_path_factory) / "x.pth"


@pytest.fixture(scope="session")
def kl16_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A KL-16 checkpoint in LDM's layout, 266 MB. Not to be changed."""
    from kl16 import write_rule_filled_kl16

    return made_once("kl16", lambda folder: write_rule_filled_kl16(folder / "x.ckpt"), tmp_path_factory) / "x.ckpt"
