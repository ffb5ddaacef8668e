"""How the drivers of a sweep are asked to stop, on whatever machine, running or still waiting in a queue.

ROOT/NAME/stop holds the last request. Each has an id of its own, and a driver stops when another one stands there than
when it began, or when its job was submitted. So no two machines' clocks are compared, nor times that a file system
rounds. Where the text can't be read, the file's own time, as its server dates it, is the id.
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
    """Asks all drivers of the sweep in this folder that began, or were submitted, before; other users' too."""
    identity = uuid.uuid4().hex
    made = folder / f".{STOP}.{identity}"
    try:
        write_text(made, f"{datetime.now(UTC).isoformat(timespec='seconds')} {identity}\n")
        with suppress(PermissionError):  # a file system without modes
            made.chmod(made.stat().st_mode | 0o444)  # their drivers are to read it, whatever our umask
        os.replace(made, folder / STOP)
        flush_folder(folder)
    finally:
        made.unlink(missing_ok=True)


def last_stop(folder: Path, *, afresh: bool = False) -> str:
    """The last request, as `is_another` compares them; empty where there is none.

    Args:
        folder: of the sweep.
        afresh: whether a network file system is made to look again, which may remember for a minute what was there.

    Raises:
        UserError: nobody can tell whether there is one.
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
            f"{folder / STOP} can't be looked at ({error.strerror}): mend the permissions of {folder}."
        ) from error
    try:
        text = (folder / STOP).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):  # another user's; or replaced just now, which NFS calls stale
        text = ""
    return f"{made} {text}"


def is_another(now: str, before: str) -> bool:
    """Whether there is a request now, and not the one there was before."""
    if not now or not before:
        return bool(now)
    (made, _, text), (made_before, _, text_before) = now.partition(" "), before.partition(" ")
    return text != text_before if text and text_before else made != made_before
