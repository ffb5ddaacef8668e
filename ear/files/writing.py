"""Writing files so that a reader sees the old content or the new, never a half; and where files can be written."""

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

OWN_FILE_SYSTEMS = {"tmpfs", "ramfs", "overlay", "zfs"}  # of one machine, though they have no disk's number


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Calls `write` on a temporary name beside `path`, flushes it to disk, then renames it over `path`.

    The new name is flushed as well: what was written before this returns is there after a power cut.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        temporary.touch()  # with the user's own umask, which some writers (safetensors) know nothing of
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
    """All files below a folder, and the folders, so that they outlive a power cut."""
    for path in folder.rglob("*"):
        if path.is_dir():
            flush_folder(path)
        else:
            flush_file(path)
    flush_folder(folder)


def flush_file(path: Path) -> None:
    with path.open("rb") as written:
        os.fsync(written.fileno())


def flush_folder(folder: Path) -> None:
    """Makes the names in it outlive a power cut, as far as the file system knows how to flush folders."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Atomically writes a UTF-8 text file, making its folder when needed."""
    write_atomically(path, lambda temporary: _write_text(temporary, text))


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Atomically writes JSON, indented, ending in a newline."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def require_regular(path: Path) -> os.stat_result:
    """Looks at a file before it is opened: a pipe keeps whoever opens it waiting, and a device may have no end.

    Raises:
        OSError: there is none, or it is a folder, a pipe, a socket or a device; `strerror` says so.
    """
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is a pipe, a socket or a device, not a file", str(path))
    return status


def exists(path: Path) -> bool:
    """`Path.exists`, and False of a name that no file can have since it is too long, which raises there."""
    try:
        return path.exists()
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return False


def is_there(path: Path) -> bool:
    """Whether there is such a file, for those who wait for another machine to make it.

    A network file system remembers for a minute that there was none; opening the folder makes it look again.
    """
    if path.exists():
        return True
    try:
        os.close(os.open(path.parent, os.O_RDONLY))
    except OSError:
        return False
    return path.exists()


def time_in(folder: Path) -> float:
    """The time by which files in `folder` are dated, in seconds since 1970: a file server's clock need not be ours.

    Raises:
        OSError: nothing can be changed there.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as made:
            return os.fstat(made.fileno()).st_mtime
    except OSError:  # a full disk
        os.utime(folder)
        return folder.stat().st_mtime


def is_on_own_disk(path: Path) -> bool:
    """Whether a path lies where this machine alone sees it, so that on others the same path may be something else."""
    try:
        device = path.stat().st_dev
        if os.major(device):  # a disk's; network file systems have none
            return True
        mounts = Path("/proc/self/mountinfo").read_text(errors="replace").splitlines()
    except OSError:
        return False
    number = f"{os.major(device)}:{os.minor(device)}"
    kinds = [line.partition(" - ")[2].split()[0] for line in mounts if line.split()[2] == number]
    return not kinds or kinds[0] in OWN_FILE_SYSTEMS  # btrfs gives numbers that no mount has


def may_write(path: Path) -> bool:
    """Whether this process could change a file or folder, or make it, as far as permissions and mounts tell."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def require_writable(folder: Path, option: str = "--root DIR or EAR_ROOT") -> None:
    """Makes `folder` and proves that a file can be written in it.

    Raises:
        UserError: it cannot, with the system's reason and the remedy: another place by `option`.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f"The folder {folder} can't be written ({error.strerror or error}): "
            f"give another with {option}, or mend its permissions."
        ) from error


def require_file_place(path: Path, option: str) -> None:
    """Proves that a file can be written at `path`, before the work whose result it takes.

    Raises:
        UserError: it is a folder, or lies in one that can't be written.
    """
    if path.is_dir():
        raise UserError(f"{option} {path} is a folder: name a file in it.")
    require_writable(path.parent, option)
