"""Copies of the files that a submitted command reads, so that what was submitted is what runs."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path


def keep(files: Sequence[Path], folder: Path) -> dict[Path, Path]:
    """Copies files into a folder that does not exist yet, and returns where each is now.

    They lie there as they lay to each other, since one may name another by a relative path.
    """
    if not files:
        return {}
    # Not resolved: what a link's file names lies beside the link.
    absolute = {path: Path(os.path.normpath(path.absolute())) for path in files}
    above = Path(os.path.commonpath([path.parent for path in absolute.values()]))
    kept = {path: folder / place.relative_to(above) for path, place in absolute.items()}
    for path, copy in kept.items():
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    return kept
