"""Files and folders that no other user of the machine may read, write or replace; root may do everything."""

import os
import stat
from contextlib import suppress
from pathlib import Path

from ear.errors import UserError

BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
ALL_IDS = 2**32 - 1  # mapped in a user namespace that is none


def open_to_others(folder: Path) -> str | None:
    """Why another user could put something else in the place of what is made in a folder; None where nobody could.

    Looks at every folder on the way, since whoever may write one may replace what lies in it. A sticky folder, as
    /tmp is, lets everybody write but replace only what is his.

    Args:
        folder: resolved, since a symbolic link may be another user's.
    """
    for each in (folder, *folder.parents):
        status = each.lstat()
        if not _is_trusted(status.st_uid):
            return f"{each} belongs to another user"
        if _may_be_written(status) and not status.st_mode & stat.S_ISVTX:
            return f"{each} can be written by others"
    return None


def keep_private(folder: Path, otherwise: str) -> None:
    """Makes a folder that this user alone may write, or has an own one be so.

    Args:
        folder: where secrets lie, or files that are run.
        otherwise: where another place is named, for the error.

    Raises:
        UserError: it is another user's, a link, or stays open.
    """
    with suppress(OSError):
        folder.mkdir(mode=0o700, parents=True)
    try:
        status = folder.lstat()
        if stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid():
            if _may_be_written(status):
                folder.chmod(stat.S_IMODE(status.st_mode) & ~BY_OTHERS)
                status = folder.lstat()
            if not _may_be_written(status):
                return
        reason = f"it is {stat.filemode(status.st_mode)}, of user {status.st_uid}"
    except OSError as error:
        reason = error.strerror or str(error)
    raise UserError(f"{folder} can't be a folder that you alone may write ({reason}): name another {otherwise}.")


def write_secret(path: Path, text: str) -> None:
    """Makes a file that this user alone may read, before there is anything in it.

    Raises:
        FileExistsError: there is something under this name, whose owner and mode nobody knows.
    """
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
        file.write(text)


def _may_be_written(status: os.stat_result) -> bool:
    """By users other than its owner; root's own group counts as root, since images are made so."""
    return bool(status.st_mode & (stat.S_IWOTH if status.st_gid == 0 else BY_OTHERS))


def _is_trusted(owner: int) -> bool:
    return owner in (0, os.getuid()) or (not _all_ids_are_mapped() and owner == _unmapped_id())


def _all_ids_are_mapped() -> bool:
    """Not in a container that knows its user's id alone: what is root's seems to be nobody's there."""
    try:
        return int(Path("/proc/self/uid_map").read_text().split()[2]) == ALL_IDS
    except (OSError, IndexError, ValueError):  # no Linux
        return True


def _unmapped_id() -> int:
    return int(Path("/proc/sys/kernel/overflowuid").read_text())
