"""One Ray cluster over the nodes of one job.

The driver on the first node starts Ray's head and says so on the job's message board; a task on each other node joins
with what SLURM granted there, leaves when the driver is done, and joins anew when another driver takes its place.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ear.files.private import keep_private, write_secret
from slurm.allocation import Allocation
from slurm.ray_node import Head, RayNode
from slurm.rendezvous import POLL_SECONDS, Rendezvous, first_address, show_address

FOLDER, ATTEMPT = "EAR_GANG_FOLDER", "EAR_GANG_ATTEMPT"  # of the environment, set by the job for the driver
HEAD, OVER = "head", "over"  # topics
SECONDS_TO_ARRIVE = 60.0  # for the second node
REJOIN_SECONDS = 30.0  # of the same head


class Gang:
    """The message board of a job that is one Ray cluster."""

    def __init__(self, allocation: Allocation, board: Rendezvous) -> None:
        self.allocation = allocation
        self._board = board

    @classmethod
    def current(cls) -> "Gang | None":
        """The gang that this process is the driver of; None in anything but such a job."""
        allocation = Allocation.current()
        if allocation is None or FOLDER not in os.environ:
            return None
        return cls(allocation, Rendezvous(Path(os.environ[FOLDER]), allocation.job, int(os.environ[ATTEMPT])))

    def environment(self) -> dict[str, str]:
        """What the driver is to be started with."""
        return {FOLDER: str(self._board.folder), ATTEMPT: str(self.allocation.restarts)}

    # The driver's side

    @contextmanager
    def token(self, secret: str) -> Iterator[Path]:
        """A file with this secret that the other nodes can read too, for as long as the cluster lives.

        Raises:
            UserError: others could put another in its place.
        """
        path = self._board.path("token").with_suffix("")
        keep_private(path.parent, "root with --root DIR or EAR_ROOT")
        self._remove_tokens()  # of an attempt that was killed
        write_secret(path, secret)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def address(self) -> str:
        """Of this node as the others reach it."""
        return first_address(self.allocation, self._board, SECONDS_TO_ARRIVE)

    def announce(self, address: str, token: Path) -> None:
        self._board.publish(HEAD, {"address": address, "token_file": str(token), "driver": os.getpid()})

    # The job's side

    def finish(self) -> None:
        """Lets the other nodes go, and leaves no secret."""
        self._board.publish(OVER, True)
        self._remove_tokens()

    def _remove_tokens(self) -> None:
        for left in self._board.folder.glob(f"token-{self.allocation.job}-*"):
            left.unlink(missing_ok=True)

    def serve(self) -> None:
        """Gives this node to whatever head is announced, until the job is over."""
        show_address(self.allocation, self._board)
        node: RayNode | None = None
        head: Head | None = None
        joined = 0.0
        try:
            while self._board.read(OVER) is None:
                announced = self._board.read(HEAD)
                latest = Head(**announced) if announced else None
                # A node that lost its head waits for another; one that died by itself joins the same again.
                lost = node is not None and not node.alive and time.monotonic() - joined > REJOIN_SECONDS
                if latest is not None and (latest != head or lost):
                    if node is not None:
                        node.end()
                    head, node, joined = latest, RayNode(self.allocation, latest), time.monotonic()
                time.sleep(POLL_SECONDS)
        finally:
            if node is not None:
                node.end()
