"""Temporary folders that go with their process, however it ends, and are closed to other users."""

import fcntl
import multiprocessing.util
import os
import shutil
import stat
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from filelock import FileLock

from ear.errors import UserError
from ear.files.private import keep_private, open_to_others

PREFIX = "ear-"
ALIVE = "alive"  # locked for as long as the process lives that made the folder, however it ends
SETTLED_SECONDS = 10
ELSEWHERE = ("/tmp", "/var/tmp")  # where TMPDIR is too long
SOCKET_PATH = 103  # bytes that a unix socket's path may have on Linux (107) and macOS
OF_RAY = "r"  # the folder in it that Ray makes, for everybody to write
BELOW_OF_RAY = len(
    "/ear-12345678/r/session_2026-11-26_12-00-00_123456_1234567/sockets/plasma_store"
)  # bytes below TMPDIR
BELOW_OF_WORKERS = len("/pymp-12345678/listener-12345678")  # likewise, of processes that load data


def parents() -> list[Path]:
    """Where temporary folders may be: TMPDIR, then what is short."""
    return [Path(tempfile.gettempdir()), *map(Path, ELSEWHERE)]


def short_parent(below: int) -> Path:
    """The first of them that leaves room for so many bytes of a socket's path, and where others can replace nothing.

    Raises:
        UserError: none does.
    """
    faults: list[str] = []
    for given in parents():
        parent = given.resolve()  # a link may lead elsewhere tomorrow
        if (fault := _fault(parent, below)) is None:
            if faults and not _is_too_long(parents()[0].resolve(), below):  # which nobody need know
                _warn(f"{faults[0]} is passed over: temporary files are in {parent}.")
            return parent
        faults.append(f"{given} ({fault})")
    raise UserError(
        f"There is no place for temporary files: {', '.join(faults)}. Set TMPDIR to a folder of at most "
        f"{SOCKET_PATH - below} bytes that nobody but you may write, nor the folders above it."
    )


@cache
def _warn(message: str) -> None:
    """Once in a process."""
    warnings.warn(message, stacklevel=3)


def _is_too_long(parent: Path, below: int) -> bool:
    return len(os.fsencode(parent)) + below > SOCKET_PATH


def _fault(parent: Path, below: int) -> str | None:
    """Why sockets can't lie there, in words."""
    if _is_too_long(parent, below):
        return "its path is too long for the sockets in it"
    if not os.access(parent, os.W_OK):
        return "it can't be written"
    return open_to_others(parent)


def shorten_workers_sockets() -> None:
    """Has processes that load data keep their sockets in a short folder where TMPDIR is long. Does nothing later on."""
    given = tempfile.tempdir
    tempfile.tempdir = str(short_parent(BELOW_OF_WORKERS))
    try:
        multiprocessing.util.get_temp_dir()
    finally:
        tempfile.tempdir = given


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder with a short path, since unix sockets may lie in it, that goes with its process and is open to no other
    user. What makes folders in it that are (Ray does) is to get a folder below it.

    A process killed with -9 removes nothing; so the next one removes what such processes of this user left, tokens
    among it.

    Raises:
        UserError: it can't be made.
    """
    try:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=short_parent(BELOW_OF_RAY)))
    except OSError as error:
        raise UserError(f"No temporary folder can be made ({error}); set TMPDIR to one that is writable.") from error
    try:
        keep_private(folder, "place with TMPDIR")
        with FileLock(folder / ALIVE):
            remove_abandoned(folder.parent)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_abandoned(parent: Path) -> None:
    """Removes this user's temporary folders in `parent` whose process is gone.

    Anybody may make such a folder there, or a link: nothing is followed, and another user's is left alone.
    """
    for folder in parent.glob(f"{PREFIX}*"):
        with suppress(OSError):  # gone meanwhile, another's, or alive
            _remove_if_abandoned(folder)


def _remove_if_abandoned(folder: Path) -> None:
    if (status := folder.lstat()).st_uid != os.getuid() or not stat.S_ISDIR(status.st_mode):
        return
    # Opened as it is: `FileLock` would make it, or empty what it finds under this name.
    with os.fdopen(os.open(folder / ALIVE, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "r+") as lock:
        status = os.fstat(lock.fileno())
        # A folder that is just being made has its lock file for an instant before the lock.
        if stat.S_ISREG(status.st_mode) and time.time() - status.st_mtime > SETTLED_SECONDS:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)  # follows no link
