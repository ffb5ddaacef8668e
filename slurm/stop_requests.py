"""Stop requests: how to stop all drivers of a sweep, on any machine, running or still queued.

ROOT/NAME/stop holds the last request. Every request has a unique id. A driver stops when the id differs from the one at
its start or its job's submission. So no clocks of different machines are compared, nor times that a file system
rounds. If the file's text can't be read, its modification time on the file server serves as the id.
"""

import os
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from ear.errors import UserError
from ear.files.writing import flush_folder, write_text

STOP = "stop"


def request_stop(folder: Path) -> None:
    """Asks every driver of the sweep in this folder that is already started or submitted, by any user, to stop."""
    identity = uuid.uuid4().hex
    made = folder / f".{STOP}.{identity}"
    try:
        write_text(made, f"{datetime.now(UTC).isoformat(timespec='seconds')} {identity}\n")
        with suppress(PermissionError):  # a file system without modes
            made.chmod(made.stat().st_mode | 0o444)  # other users' drivers must be able to read it
        os.replace(made, folder / STOP)
        flush_folder(folder)
    finally:
        made.unlink(missing_ok=True)


def last_stop(folder: Path, *, afresh: bool = False) -> str:
    """Returns the last stop request, for `is_another`; empty if there is none.

    Args:
        folder: the sweep's folder.
        afresh: whether to bypass a network file system's cache, which may be a minute old.

    Raises:
        UserError: the file can't be checked.
    """
    if afresh:
        with suppress(OSError):
            os.close(os.open(folder, os.O_RDONLY))
    try:
        made = (folder / STOP).stat().st_mtime_ns
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        raise UserError(
            f"{folder / STOP} can't be checked ({error.strerror}): fix the permissions of {folder}."
        ) from error
    try:
        text = (folder / STOP).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):  # another user's, or just replaced: NFS reports a stale file handle
        text = ""
    return f"{made} {text}"


def is_another(now: str, before: str) -> bool:
    """Whether there is a stop request now that differs from the one before."""
    if not now or not before:
        return bool(now)
    (made, _, text), (made_before, _, text_before) = now.partition(" "), before.partition(" ")
    return text != text_before if text and text_before else made != made_before
