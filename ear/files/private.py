"""Files and folders that no other user of the machine may read, write or replace; root may do everything."""

import grp
import os
import pwd
import stat
import warnings
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
        if _may_be_written(status) and not (status.st_mode & stat.S_ISVTX or _is_by_own_group_alone(status)):
            return f"{each} can be written by others"
    return None


def keep_private(folder: Path, otherwise: str, *, strict: bool = True) -> None:
    """Makes a folder that this user alone may write, or has an own one be so.

    Args:
        folder: where secrets lie, or files that are run.
        otherwise: where another place is named, for the error.
        strict: nobody else may read what is made, either; else a warning is enough where the file system keeps no modes
            or owners, as CIFS does.

    Raises:
        UserError: it is another user's, a link, or stays open.
    """
    made = False
    with suppress(OSError):
        folder.mkdir(mode=0o700 if strict else 0o755, parents=True)
        made = True
    if (reason := _keep_from_others(folder)) is None:
        return
    fault = f"{folder} can't be a folder that you alone may write ({reason})"
    if strict or not (made or _is_own_folder(folder)):
        raise UserError(f"{fault}: name another {otherwise}.")
    warnings.warn(
        f"{fault}; whoever else may write it can run code as you: if that is more than people whom you trust, "
        f"name another {otherwise}.",
        stacklevel=2,
    )


def _keep_from_others(folder: Path) -> str | None:
    """Takes others' permission to write from an own folder; why they may write it all the same, or None."""
    try:
        if _is_own_folder(folder) and _may_be_written(status := folder.lstat()):
            with suppress(OSError):
                folder.chmod(stat.S_IMODE(status.st_mode) & ~BY_OTHERS)
        status = folder.lstat()
        if _is_own_folder(folder) and not _may_be_written(status):
            return None
        return f"it is {stat.filemode(status.st_mode)}, of user {status.st_uid}"
    except OSError as error:
        return str(error.strerror or error)


def keep_names(folder: Path) -> None:
    """Has nobody rename what is the user's in a folder that others may write: makes it sticky, as /tmp is.

    Warns where that is not this user's to do, or where a folder above may be replaced.
    """
    status = folder.stat()
    if _may_be_written(status) and not status.st_mode & stat.S_ISVTX:
        with suppress(OSError):
            folder.chmod(stat.S_IMODE(status.st_mode) | stat.S_ISVTX)
    if (reason := open_to_others(folder.resolve())) is not None:
        warnings.warn(
            f"Others can put files of theirs in the place of your jobs, which run as you: {reason}. Share an output "
            "root among people who trust one another, or name another with --root DIR or EAR_ROOT.",
            stacklevel=2,
        )


def write_secret(path: Path, text: str) -> None:
    """Makes a file that this user alone may read, before there is anything in it.

    Raises:
        FileExistsError: there is something under this name, whose owner and mode nobody knows.
        UserError: others may read it all the same, as its file system tells.
    """
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
        mode = os.fstat(file.fileno()).st_mode
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            path.unlink()
            raise UserError(
                f"{path} can't be kept from others (it is {stat.filemode(mode)}, whatever it is made with): "
                f"name another place than {path.parent}, with --root DIR, EAR_ROOT or TMPDIR."
            )
        file.write(text)


def _is_own_folder(folder: Path) -> bool:
    try:
        status = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()


def _may_be_written(status: os.stat_result) -> bool:
    """By users other than its owner; root's own group counts as root, since images are made so."""
    return bool(status.st_mode & (stat.S_IWOTH if status.st_gid == 0 else BY_OTHERS))


def _is_by_own_group_alone(status: os.stat_result) -> bool:
    """Whether nobody may write it but a group that the system made for this user, and that has no other members."""
    if status.st_mode & stat.S_IWOTH:
        return False
    try:
        user, group = pwd.getpwuid(os.getuid()), grp.getgrgid(status.st_gid)
    except KeyError:  # a container's, without a name
        return False
    return user.pw_gid == status.st_gid and group.gr_name == user.pw_name and not set(group.gr_mem) - {user.pw_name}


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
