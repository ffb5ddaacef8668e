"""One Ray cluster over the nodes of one job.

The driver on the first node starts Ray's head and publishes its address on the job's message board. A task on each
other node joins with the node's allocation, leaves when the driver is done, and joins again if a new driver starts.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ear.files.private import keep_private, write_secret
from slurm.allocation import Allocation
from slurm.message_board import POLL_SECONDS, MessageBoard, first_address, show_address
from slurm.ray_node import Head, RayNode

FOLDER, ATTEMPT = "EAR_GANG_FOLDER", "EAR_GANG_ATTEMPT"  # environment variables that the job sets for the driver
HEAD, OVER = "head", "over"  # topics on the message board
RENDEZVOUS_SECONDS = 60.0  # how long the driver waits for the second node
REJOIN_SECONDS = 30.0  # before a node whose Ray process died joins the same head again


class Gang:
    """A job that is one Ray cluster; its tasks communicate through a message board."""

    def __init__(self, allocation: Allocation, board: MessageBoard) -> None:
        self.allocation = allocation
        self._board = board

    @classmethod
    def current(cls) -> "Gang | None":
        """Returns the gang whose driver this process is; None outside of such a job."""
        allocation = Allocation.current()
        if allocation is None or FOLDER not in os.environ:
            return None
        return cls(allocation, MessageBoard(Path(os.environ[FOLDER]), allocation.job, int(os.environ[ATTEMPT])))

    def environment(self) -> dict[str, str]:
        """Returns the environment variables for the driver."""
        return {FOLDER: str(self._board.folder), ATTEMPT: str(self.allocation.restarts)}

    # The driver's side

    @contextmanager
    def token(self, secret: str) -> Iterator[Path]:
        """Writes the cluster's secret to a file in the shared folder; yields its path and deletes it at the end.

        Raises:
            UserError: other users could replace the file.
        """
        path = self._board.path("token").with_suffix("")
        keep_private(path.parent, "root with --root DIR or EAR_ROOT")
        self._remove_tokens()  # left by a killed attempt
        write_secret(path, secret)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def address(self) -> str:
        """Returns this node's address, as the other nodes reach it."""
        return first_address(self.allocation, self._board, RENDEZVOUS_SECONDS)

    def announce(self, address: str, token: Path) -> None:
        """Publishes the address of Ray's head and the secret's file."""
        self._board.publish(HEAD, {"address": address, "token_file": str(token), "driver": os.getpid()})

    # The job's side

    def finish(self) -> None:
        """Tells the other nodes that the job is over, and removes the secrets."""
        self._board.publish(OVER, True)
        self._remove_tokens()

    def _remove_tokens(self) -> None:
        for left in self._board.folder.glob(f"token-{self.allocation.job}-*"):
            left.unlink(missing_ok=True)

    def serve(self) -> None:
        """Joins every announced head with this node, until the job is over."""
        show_address(self.allocation, self._board)
        node: RayNode | None = None
        head: Head | None = None
        joined = 0.0
        try:
            while self._board.read(OVER) is None:
                announced = self._board.read(HEAD)
                latest = Head(**announced) if announced else None
                # A node whose head is gone waits for a new head. One whose own Ray process died joins the same again.
                lost = node is not None and not node.alive and time.monotonic() - joined > REJOIN_SECONDS
                if latest is not None and (latest != head or lost):
                    if node is not None:
                        node.end()
                    head, node, joined = latest, RayNode(self.allocation, latest), time.monotonic()
                time.sleep(POLL_SECONDS)
        finally:
            if node is not None:
                node.end()
