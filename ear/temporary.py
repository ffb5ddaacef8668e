"""Temporary folders that go with their process, however it ends."""

import multiprocessing.util
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
ELSEWHERE = ("/tmp", "/var/tmp")  # where TMPDIR is too long
SOCKET_PATH = 103  # bytes that a unix socket's path may have on Linux (107) and macOS
OF_RAY = len("/ear-12345678/session_2026-11-26_12-00-00_123456_1234567/sockets/plasma_store")  # bytes below TMPDIR
OF_WORKERS = len("/pymp-12345678/listener-12345678")  # likewise, of processes that load data


def parents() -> list[Path]:
    """Where temporary folders may be: TMPDIR, then what is short."""
    return [Path(tempfile.gettempdir()), *map(Path, ELSEWHERE)]


def short_parent(below: int) -> Path:
    """The first of them that leaves room for so many bytes of a socket's path.

    Raises:
        UserError: none does.
    """
    for parent in parents():
        if len(os.fsencode(parent)) + below <= SOCKET_PATH and os.access(parent, os.W_OK):
            return parent
    raise UserError(
        f"TMPDIR, {tempfile.gettempdir()}, is too long for the sockets in it, and {' and '.join(ELSEWHERE)} can't be "
        f"written: set TMPDIR to a folder of at most {SOCKET_PATH - below} bytes."
    )


def shorten_workers_sockets() -> None:
    """Has processes that load data keep their sockets in a short folder where TMPDIR is long. Does nothing later on."""
    given = tempfile.tempdir
    tempfile.tempdir = str(short_parent(OF_WORKERS))
    try:
        multiprocessing.util.get_temp_dir()
    finally:
        tempfile.tempdir = given


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder with a short path, since unix sockets may lie in it, that goes with its process.

    A process killed with -9 removes nothing; so the next one removes what such processes of this user left, tokens
    among it.

    Raises:
        UserError: it can't be made.
    """
    try:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=short_parent(OF_RAY)))
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
