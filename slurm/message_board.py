"""The message board of a job's tasks: small files in a shared folder, each written atomically."""

import json
import time
from pathlib import Path
from typing import Any

from ear.files.writing import is_there, write_json
from slurm.allocation import Allocation

ADDRESS = "address"  # topic
POLL_SECONDS = 0.5


class MessageBoard:
    """The message board of one attempt at a job; it ignores the messages of earlier attempts."""

    def __init__(self, folder: Path, job: str, attempt: int) -> None:
        self._stem = f"{job}-{attempt}"
        self.folder = folder

    def path(self, topic: str) -> Path:
        """Returns the file of a topic."""
        return self.folder / f"{topic}-{self._stem}.json"

    def publish(self, topic: str, message: Any) -> None:
        """Writes a topic's message, a JSON value; replaces an earlier one."""
        write_json(self.path(topic), message)

    def read(self, topic: str) -> Any:
        """Returns a topic's message, or None if there is none yet."""
        try:
            return json.loads(self.path(topic).read_text(encoding="utf-8")) if is_there(self.path(topic)) else None
        except OSError:  # just replaced: NFS reports a stale file handle
            return None

    def wait(self, topic: str, seconds: float) -> Any:
        """Waits for a topic's message and returns it.

        Raises:
            TimeoutError: there is none after `seconds`.
        """
        deadline = time.monotonic() + seconds
        while (message := self.read(topic)) is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.path(topic)} did not appear within {seconds:.0f} s")
            time.sleep(POLL_SECONDS)
        return message


def show_address(allocation: Allocation, board: MessageBoard) -> None:
    """Publishes the first node's address as the second node sees it; does nothing on other nodes."""
    if allocation.node == 1:
        board.publish(ADDRESS, allocation.address)


def first_address(allocation: Allocation, board: MessageBoard, seconds: float) -> str:
    """Returns the first node's address as the second node sees it, since a node may know itself only by loopback.

    Args:
        allocation: of this task.
        board: the job's message board.
        seconds: how long to wait for the second node before falling back to SLURM's address.
    """
    if allocation.nodes == 1:
        return allocation.address
    try:
        return str(board.wait(ADDRESS, seconds))
    except TimeoutError:
        return allocation.address
