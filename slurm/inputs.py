"""Copies the files that a submitted command reads, so that later edits do not change a queued job."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path


def keep(files: Sequence[Path], folder: Path) -> dict[Path, Path]:
    """Copies files into a new folder and returns the copy of each.

    Their relative positions are kept, since one file may name another by a relative path.
    """
    if not files:
        return {}
    # Symbolic links are not resolved: relative paths in a file are relative to the link.
    absolute = {path: Path(os.path.normpath(path.absolute())) for path in files}
    above = Path(os.path.commonpath([path.parent for path in absolute.values()]))
    kept = {path: folder / place.relative_to(above) for path, place in absolute.items()}
    for path, copy in kept.items():
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    return kept
