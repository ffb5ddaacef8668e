"""Temporary folders that are removed when their process ends, in any way, and that other users can't access."""

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
ALIVE = "alive"  # a file that is locked while the process that made the folder is running
SETTLED_SECONDS = 10
ELSEWHERE = ("/tmp", "/var/tmp")  # used if TMPDIR is too long
SOCKET_PATH = 103  # maximum bytes of a unix socket's path on Linux (107) and macOS
OF_RAY = "r"  # the subfolder that Ray creates, writable for everybody
BELOW_OF_RAY = len(
    "/ear-12345678/r/session_2026-11-26_12-00-00_123456_1234567/sockets/plasma_store"
)  # bytes of Ray's socket paths below TMPDIR
BELOW_OF_WORKERS = len("/pymp-12345678/listener-12345678")  # the same for data loading processes


def parents() -> list[Path]:
    """Candidate parents of temporary folders: TMPDIR, then short paths."""
    return [Path(tempfile.gettempdir()), *map(Path, ELSEWHERE)]


def short_parent(below: int) -> Path:
    """The first candidate that leaves `below` bytes for a socket's path and where other users can't replace files.

    Raises:
        UserError: there is none.
    """
    faults: list[str] = []
    for given in parents():
        parent = given.resolve()  # the target of a link may change later
        if (fault := _fault(parent, below)) is None:
            if faults and not _is_too_long(parents()[0].resolve(), below):  # a path that is too long needs no warning
                _warn(f"{faults[0]} is not used: temporary files are in {parent}.")
            return parent
        faults.append(f"{given} ({fault})")
    raise UserError(
        f"There is no usable folder for temporary files: {', '.join(faults)}. Set TMPDIR to a path of at most "
        f"{SOCKET_PATH - below} bytes where nobody but you can write to the folder or to any folder above it."
    )


@cache
def _warn(message: str) -> None:
    """Warn once per process."""
    warnings.warn(message, stacklevel=3)


def _is_too_long(parent: Path, below: int) -> bool:
    return len(os.fsencode(parent)) + below > SOCKET_PATH


def _fault(parent: Path, below: int) -> str | None:
    """Why sockets can't be put there, or None."""
    if _is_too_long(parent, below):
        return "its path is too long for sockets"
    if not os.access(parent, os.W_OK):
        return "it can't be written"
    return open_to_others(parent)


def shorten_workers_sockets() -> None:
    """Make data loading processes put their sockets in a folder with a short path, if TMPDIR is too long for them."""
    given = tempfile.tempdir
    tempfile.tempdir = str(short_parent(BELOW_OF_WORKERS))
    try:
        multiprocessing.util.get_temp_dir()
    finally:
        tempfile.tempdir = given


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A temporary folder that is removed at the end and that other users can't access.

    Its path is short enough for unix sockets. Programs that create folders accessible to others, such as Ray, must use
    a subfolder. A process killed with SIGKILL removes nothing, so the next call removes abandoned folders of this user,
    which may contain tokens.

    Raises:
        UserError: it can't be created.
    """
    try:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=short_parent(BELOW_OF_RAY)))
    except OSError as error:
        raise UserError(f"Can't create a temporary folder ({error}): set TMPDIR to a writable folder.") from error
    try:
        keep_private(folder, "folder with TMPDIR")
        with FileLock(folder / ALIVE):
            remove_abandoned(folder.parent)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_abandoned(parent: Path) -> None:
    """Remove this user's temporary folders in `parent` whose process has ended.

    Anybody may create such folders or links there, so links are not followed and other users' folders stay.
    """
    for folder in parent.glob(f"{PREFIX}*"):
        with suppress(OSError):  # already removed, another user's, or in use
            _remove_if_abandoned(folder)


def _remove_if_abandoned(folder: Path) -> None:
    if (status := folder.lstat()).st_uid != os.getuid() or not stat.S_ISDIR(status.st_mode):
        return
    # Opened without FileLock, which would create or truncate the file.
    with os.fdopen(os.open(folder / ALIVE, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "r+") as lock:
        status = os.fstat(lock.fileno())
        # In a folder that was just created, the lock file exists for an instant before it is locked.
        if stat.S_ISREG(status.st_mode) and time.time() - status.st_mtime > SETTLED_SECONDS:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)  # does not follow links
