"""Files and folders that no other user of the machine, except root, can read, write or replace."""

import grp
import os
import pwd
import stat
import warnings
from contextlib import suppress
from pathlib import Path

from ear.errors import UserError

BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
ALL_IDS = 2**32 - 1  # number of user ids that are mapped outside any user namespace


def open_to_others(folder: Path) -> str | None:
    """Why another user could replace files in a folder; None if nobody could.

    Checks the folder and all folders above it, since whoever can write to one can replace its content. In a sticky
    folder such as /tmp everybody can create files, but only replace their own.

    Args:
        folder: a resolved path, since a symbolic link may be another user's.
    """
    for each in (folder, *folder.parents):
        status = each.lstat()
        if not _is_trusted(status.st_uid):
            return f"{each} belongs to another user"
        if _may_be_written(status) and not (status.st_mode & stat.S_ISVTX or _is_by_own_group_alone(status)):
            return f"{each} can be written by others"
    return None


def keep_private(folder: Path, otherwise: str, *, strict: bool = True) -> None:
    """Create a folder that only this user can write to, or make an existing one so.

    Args:
        folder: for secrets, or for files that will be executed.
        otherwise: how to choose another folder, for messages.
        strict: nobody else may read its content either. If False, and the file system has no modes or owners, such as
            CIFS, give a warning instead of an error.

    Raises:
        UserError: the folder belongs to another user, is a link, or stays writable for others.
    """
    made = False
    with suppress(OSError):
        folder.mkdir(mode=0o700 if strict else 0o755, parents=True)
        made = True
    if (reason := _keep_from_others(folder)) is None:
        return
    fault = f"{folder} can't be made writable for you alone ({reason})"
    if strict or not (made or _is_own_folder(folder)):
        raise UserError(f"{fault}: give another {otherwise}.")
    warnings.warn(
        f"{fault}; everyone who can write to it can run code as you. Unless you trust all of them, "
        f"give another {otherwise}.",
        stacklevel=2,
    )


def _keep_from_others(folder: Path) -> str | None:
    """Remove the write permission of others from an own folder. Returns why they can still write, or None."""
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
    """Prevent others from renaming this user's files in a shared folder, by making it sticky like /tmp.

    Warns if this user can't do that, or if a folder above can be replaced.
    """
    status = folder.stat()
    if _may_be_written(status) and not status.st_mode & stat.S_ISVTX:
        with suppress(OSError):
            folder.chmod(stat.S_IMODE(status.st_mode) | stat.S_ISVTX)
    if (reason := open_to_others(folder.resolve())) is not None:
        warnings.warn(
            f"Others can replace the files of your jobs, which run as you: {reason}. Share an output root only with "
            "people you trust, or give another with --root DIR or EAR_ROOT.",
            stacklevel=2,
        )


def write_secret(path: Path, text: str) -> None:
    """Write a new file that only this user can read; its mode is set before any content is written.

    Raises:
        FileExistsError: a file with this name exists, with unknown owner and mode.
        UserError: the file system lets others read it anyway.
    """
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
        mode = os.fstat(file.fileno()).st_mode
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            path.unlink()
            raise UserError(
                f"{path} can't be made private (its mode is always {stat.filemode(mode)}): "
                f"give another folder than {path.parent}, with --root DIR, EAR_ROOT or TMPDIR."
            )
        file.write(text)


def _is_own_folder(folder: Path) -> bool:
    try:
        status = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()


def _may_be_written(status: os.stat_result) -> bool:
    """Whether users other than the owner can write; root's group counts as root, as in container images."""
    return bool(status.st_mode & (stat.S_IWOTH if status.st_gid == 0 else BY_OTHERS))


def _is_by_own_group_alone(status: os.stat_result) -> bool:
    """Whether, besides the owner, only this user's private group, which has no other members, can write."""
    if status.st_mode & stat.S_IWOTH:
        return False
    try:
        user, group = pwd.getpwuid(os.getuid()), grp.getgrgid(status.st_gid)
    except KeyError:  # a user or group without a name, in a container
        return False
    return user.pw_gid == status.st_gid and group.gr_name == user.pw_name and not set(group.gr_mem) - {user.pw_name}


def _is_trusted(owner: int) -> bool:
    return owner in (0, os.getuid()) or (not _all_ids_are_mapped() and owner == _unmapped_id())


def _all_ids_are_mapped() -> bool:
    """Whether all user ids are mapped. In a container that maps only its user's id, root's files look like nobody's."""
    try:
        return int(Path("/proc/self/uid_map").read_text().split()[2]) == ALL_IDS
    except (OSError, IndexError, ValueError):  # not Linux
        return True


def _unmapped_id() -> int:
    return int(Path("/proc/sys/kernel/overflowuid").read_text())
