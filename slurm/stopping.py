"""How the drivers of a sweep are asked to stop, on whatever machine, running or still waiting in a queue.

ROOT/NAME/stop holds the last request. Each has an id of its own, and a driver stops when another one stands there than
when it began, or when its job was submitted. So no two machines' clocks are compared, nor times that a file system
rounds.
"""

import os
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from ear.files import write_text

STOP = "stop"


def request_stop(folder: Path) -> None:
    """Asks all drivers of the sweep in this folder that began, or were submitted, before."""
    write_text(folder / STOP, f"{datetime.now(UTC).isoformat(timespec='seconds')} {uuid.uuid4().hex}\n")


def last_stop(folder: Path, *, afresh: bool = False) -> str:
    """The last request, which is like no other; empty where none can be read.

    Args:
        folder: of the sweep.
        afresh: whether a network file system is made to look again, which may remember for a minute what was there.
    """
    if afresh:
        with suppress(OSError):
            os.close(os.open(folder, os.O_RDONLY))
    try:
        return (folder / STOP).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
