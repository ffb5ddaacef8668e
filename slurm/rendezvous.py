"""How a job's tasks find one another: small files in a folder that they share, each of which appears whole."""

import json
import random
import socket
import time
from pathlib import Path
from typing import Any

from ear.files.writing import is_there, write_json
from slurm.allocation import Allocation

ADDRESS = "address"  # topic
POLL_SECONDS = 0.5
PORTS = range(20000, 32768)  # below those that systems hand out to connections on their own accord


class Rendezvous:
    """A message board of one attempt at a job: what an earlier attempt left is not seen."""

    def __init__(self, folder: Path, job: str, attempt: int) -> None:
        self._stem = f"{job}-{attempt}"
        self.folder = folder

    def path(self, topic: str) -> Path:
        return self.folder / f"{topic}-{self._stem}.json"

    def publish(self, topic: str, message: Any) -> None:
        """Replaces what stood there."""
        write_json(self.path(topic), message)

    def read(self, topic: str) -> Any:
        """The message, or None while there is none."""
        try:
            return json.loads(self.path(topic).read_text(encoding="utf-8")) if is_there(self.path(topic)) else None
        except OSError:  # replaced just now, which a network file system calls stale
            return None

    def wait(self, topic: str, seconds: float) -> Any:
        """The message, as soon as there is one.

        Raises:
            TimeoutError: there is none in that time.
        """
        deadline = time.monotonic() + seconds
        while (message := self.read(topic)) is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.path(topic)} did not appear within {seconds:.0f} s")
            time.sleep(POLL_SECONDS)
        return message


def show_address(allocation: Allocation, board: Rendezvous) -> None:
    """Tells, on the second node, what it calls the first."""
    if allocation.node == 1:
        board.publish(ADDRESS, allocation.address)


def first_address(allocation: Allocation, board: Rendezvous, seconds: float) -> str:
    """Of the first node as the second one sees it, in all tasks: by itself, a node may know only its loopback.

    Args:
        seconds: for the second node to arrive; later, its view of the first is not waited for.
    """
    if allocation.nodes == 1:
        return allocation.address
    try:
        return str(board.wait(ADDRESS, seconds))
    except TimeoutError:
        return allocation.address


def free_port() -> int:
    """A port that nobody on this machine listens on now, nor is likely to in the next seconds."""
    draw = random.Random()  # not the run's seed: several jobs of one configuration may share a machine
    while True:
        port = draw.choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("", port))
            except OSError:
                continue
        return port
