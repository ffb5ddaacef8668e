"""SHA-256 of files, as sha256sum prints it."""

import hashlib
from functools import cache
from pathlib import Path

from ear.files.writing import require_regular


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, which are always read.

    Raises:
        OSError: the file can't be read, or is a pipe or a device.
    """
    require_regular(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cached_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes. A process reads an unchanged file only once.

    Raises:
        OSError: as for `file_sha256`.
    """
    stat = require_regular(path)
    # The inode and its change time detect a replacement with the same size and time, such as `cp -p` makes.
    return _cached(path.absolute(), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)


@cache
def _cached(path: Path, *_stamp: int) -> str:
    return file_sha256(path)
