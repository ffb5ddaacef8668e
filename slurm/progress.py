"""Whether a job gets on: what can be seen of it in its output root, by a process that has loaded nothing heavy."""

import os
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open


@dataclass(frozen=True)
class Progress:
    """Differs from an earlier one exactly where something was made in between."""

    results: int  # published in the store
    steps: int  # of training in checkpoints of what is unfinished
    cached: int  # bytes of encoded latents

    @classmethod
    def of(cls, store: Path, cache: Path | None) -> "Progress":
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
        except (OSError, SafetensorError, ValueError):  # just replaced, or published
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
