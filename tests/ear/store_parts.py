"""Results of a store that took no training, and damage to them."""

import shutil
from pathlib import Path

from ear.store import Store

A, B, C, D = (letter * 32 for letter in "abcd")


def publish(store: Store, key: str, needs: tuple[str, ...] = (), **files: str) -> Path:
    def fill(folder: Path) -> None:
        for name, content in (files or {"value": key}).items():
            (folder / name).write_text(content)

    return store.publish(key, "training", fill, {"step": 1, "seconds": 3600.0, "diverged_at": None}, needs)


def copy_result(key: str, folder: Path, store: Store) -> None:
    """From the `store` folder of another root."""
    shutil.copytree(folder / key, store.path(key))


def flip(path: Path, at: int = -1) -> None:
    """One bit, in place."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
