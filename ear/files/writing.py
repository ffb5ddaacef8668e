"""Atomic writing of files, so that readers see the old content or the new, and checks where files can be written."""

import errno
import json
import os
import stat
import tempfile
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ear.errors import UserError

OWN_FILE_SYSTEMS = {"tmpfs", "ramfs", "overlay", "zfs"}  # local, though without the device number of a disk


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Call `write` with a temporary path beside `path`, flush that file to disk, then rename it to `path`.

    The rename is flushed too, so the file survives a power failure once this function has returned.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        temporary.touch()  # applies the user's umask, which some writers (safetensors) ignore
        mode = temporary.stat().st_mode
        write(temporary)
        if temporary.stat().st_mode != mode:
            temporary.chmod(mode)
        flush_file(temporary)
        os.replace(temporary, path)
        flush_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def flush_to_disk(folder: Path) -> None:
    """Flush all files and folders below a folder, so that they survive a power failure."""
    for path in folder.rglob("*"):
        if path.is_dir():
            flush_folder(path)
        else:
            flush_file(path)
    flush_folder(folder)


def flush_file(path: Path) -> None:
    """Flush a file's content to disk."""
    with path.open("rb") as written:
        os.fsync(written.fileno())


def flush_folder(folder: Path) -> None:
    """Flush the names in a folder to disk, if the file system supports flushing folders."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically, creating its folder if needed."""
    write_atomically(path, lambda temporary: _write_text(temporary, text))


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically, indented and with a final newline."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def require_regular(path: Path) -> os.stat_result:
    """Check that a path is a regular file before it is opened: opening a pipe blocks, and a device may never end.

    Raises:
        OSError: it does not exist, or is a folder, a pipe, a socket or a device; `strerror` says so.
    """
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is a pipe, a socket or a device, not a file", str(path))
    return status


def exists(path: Path) -> bool:
    """Like `Path.exists`, but False for a name that is too long for a file instead of an error."""
    try:
        return path.exists()
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return False


def is_there(path: Path) -> bool:
    """Whether a file exists, for waiting until another machine creates it.

    A network file system may cache for a minute that a file does not exist; opening its folder refreshes the cache.
    """
    if path.exists():
        return True
    try:
        os.close(os.open(path.parent, os.O_RDONLY))
    except OSError:
        return False
    return path.exists()


def time_in(folder: Path) -> float:
    """The current time in seconds since 1970 by the clock that dates files in `folder`, which may be a file server's.

    Raises:
        OSError: nothing can be written there.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as made:
            return os.fstat(made.fileno()).st_mtime
    except OSError:  # a full disk
        os.utime(folder)
        return folder.stat().st_mtime


def is_on_own_disk(path: Path) -> bool:
    """Whether a path is on a local file system, so that on other machines the same path may be another file."""
    try:
        device = path.stat().st_dev
        if os.major(device):  # of a disk; network file systems have no major number
            return True
        mounts = Path("/proc/self/mountinfo").read_text(errors="replace").splitlines()
    except OSError:
        return False
    number = f"{os.major(device)}:{os.minor(device)}"
    kinds = [line.partition(" - ")[2].split()[0] for line in mounts if line.split()[2] == number]
    return not kinds or kinds[0] in OWN_FILE_SYSTEMS  # btrfs has device numbers that no mount lists


def may_write(path: Path) -> bool:
    """Whether this process may change or create a file or folder, judged by permissions and mounts."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def require_writable(folder: Path, option: str = "--root DIR or EAR_ROOT") -> None:
    """Create `folder` if needed and check that a file can be written in it.

    Raises:
        UserError: it can't; the message gives the system's reason and the option for another folder.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f"The folder {folder} can't be written ({error.strerror or error}): "
            f"give another with {option}, or fix its permissions."
        ) from error


def require_file_place(path: Path, option: str) -> None:
    """Check that a file can be written at `path`, before the work whose result it will contain.

    Raises:
        UserError: it is a folder, or its folder can't be written.
    """
    if path.is_dir():
        raise UserError(f"{option} {path} is a folder: give a file in it.")
    require_writable(path.parent, option)
