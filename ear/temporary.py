"""Temporary folders that go with their process, however it ends."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ear.errors import UserError

PREFIX = "ear-"
ALIVE = "alive"  # locked for as long as the process lives that made the folder, however it ends
SETTLED_SECONDS = 10


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder with a short path, since unix sockets may lie in it, that goes with its process.

    A process killed with -9 removes nothing; so the next one removes what such processes of this user left, tokens
    among it.

    Raises:
        UserError: it can't be made.
    """
    try:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    except OSError as error:
        raise UserError(f"No temporary folder can be made ({error}); set TMPDIR to one that is writable.") from error
    try:
        with FileLock(folder / ALIVE):
            remove_abandoned(folder.parent)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_abandoned(parent: Path) -> None:
    """Removes the temporary folders in `parent` whose process is gone."""
    for lock in parent.glob(f"{PREFIX}*/{ALIVE}"):
        try:
            status = lock.stat()
            # A folder that is just being made has its lock file for an instant before the lock.
            if status.st_uid == os.getuid() and time.time() - status.st_mtime > SETTLED_SECONDS:
                with FileLock(lock, timeout=0):
                    shutil.rmtree(lock.parent, ignore_errors=True)
        except (OSError, Timeout):  # gone meanwhile, or alive
            continue
