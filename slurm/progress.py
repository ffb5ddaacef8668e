"""Measures a job's progress from its output root, without heavy imports."""

import os
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open


@dataclass(frozen=True)
class Progress:
    """A measure of finished work; two measures differ exactly if work was done in between."""

    results: int  # published in the store
    steps: int  # training steps in checkpoints of unfinished stages
    cached: int  # bytes of encoded latents

    @classmethod
    def of(cls, store: Path, cache: Path | None) -> "Progress":
        """Measures the progress in a store and a latent cache."""
        return cls(_published(store), _unfinished_steps(store), _bytes(cache) if cache else 0)


def _published(store: Path) -> int:
    try:
        return sum(not entry.name.startswith(".") for entry in os.scandir(store))
    except OSError:
        return 0


def _unfinished_steps(store: Path) -> int:
    steps = 0
    for path in (store / ".work").glob("*/*.safetensors"):
        try:
            with safe_open(path, framework="np") as checkpoint:
                steps += int((checkpoint.metadata() or {}).get("step", 0))
        except (OSError, SafetensorError, ValueError):  # just replaced or published
            continue
    return steps


def _bytes(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:
            continue
    return total
