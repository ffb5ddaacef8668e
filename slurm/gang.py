"""One Ray cluster over the nodes of one job.

The driver on the first node starts Ray's head and says so on the job's message board; a task on each other node joins
with what SLURM granted there, leaves when the driver is done, and joins anew when another driver takes its place.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from slurm.allocation import Allocation
from slurm.rendezvous import SECONDS_BETWEEN_LOOKS, Rendezvous

FOLDER, ATTEMPT = "EAR_GANG_FOLDER", "EAR_GANG_ATTEMPT"  # of the environment, set by the job for the driver
HEAD, OVER = "head", "over"  # topics
OBJECT_STORE_BYTES = 100 * 2**20  # trials exchange nothing but small dictionaries
PREFIX = "ear-"  # of temporary folders


@dataclass(frozen=True)
class Head:
    """Where Ray's head is, for those that join."""

    address: str  # host:port of its control store
    token_file: str  # of the cluster's secret, in the shared folder, readable by its owner alone
    driver: int  # process id: another one means another head


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
    def token(self) -> Iterator[Path]:
        """A file that the other nodes can read too, for as long as the cluster lives."""
        path = self._board.path("token").with_suffix("")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def announce(self, address: str, token: Path) -> None:
        self._board.publish(HEAD, {"address": address, "token_file": str(token), "driver": os.getpid()})

    # The job's side

    def finish(self) -> None:
        """Lets the other nodes go."""
        self._board.publish(OVER, True)

    def serve(self) -> None:
        """Gives this node to whatever head is announced, until the job is over."""
        node: RayNode | None = None
        head: Head | None = None
        try:
            while self._board.read(OVER) is None:
                announced = self._board.read(HEAD)
                latest = Head(**announced) if announced else None
                if latest is not None and (latest != head or node is None or not node.alive):
                    if node is not None:
                        node.end()
                    head, node = latest, RayNode(self.allocation, latest)
                time.sleep(SECONDS_BETWEEN_LOOKS)
        finally:
            if node is not None:
                node.end()


class RayNode:
    """This node as a member of a Ray cluster."""

    def __init__(self, allocation: Allocation, head: Head) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix=PREFIX))  # short, since unix sockets lie in it
        options = {
            "address": head.address,
            "node-ip-address": own_address(head.address),
            "temp-dir": self._folder,
            "num-cpus": allocation.cpus,
            "num-gpus": allocation.gpus,
            "memory": ray_memory(allocation),
            "object-store-memory": OBJECT_STORE_BYTES,
        }
        given = [f"--{name}={value}" for name, value in options.items() if value is not None]
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"]
        with signals_kept_from_children():
            self._process = subprocess.Popen(
                [*command, *given],
                env={**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": head.token_file},
                start_new_session=True,
            )

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def end(self) -> None:
        """Kills what is left of it; trials have saved by then, and their results are in the store."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        kill_processes_naming(self._folder)
        shutil.rmtree(self._folder, ignore_errors=True)


def own_address(other: str) -> str:
    """The address of this machine that leads to another's host:port; a machine may have several."""
    host, _, port = other.rpartition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, int(port)))  # of a datagram's socket: sends nothing
        return str(probe.getsockname()[0])


def ray_memory(allocation: Allocation) -> int | None:
    """Bytes that trials may have, of those granted; None where nobody counts."""
    return None if allocation.memory is None else max(allocation.memory - OBJECT_STORE_BYTES, OBJECT_STORE_BYTES)


@contextmanager
def signals_kept_from_children() -> Iterator[None]:
    """Processes started within never see SIGTERM, SIGUSR1 and SIGUSR2, which SLURM sends to every process of a job.

    They inherit a blocked mask, that none of Ray's processes lifts. A raylet would otherwise end at once, and take its
    trials with it before they have saved; the driver ends them when they have.
    """
    blocked = {signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def kill_processes_naming(folder: Path) -> None:
    """Kills this user's processes whose command line names a folder, as Ray's do, which have their own sessions."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if process.stat().st_uid == os.getuid() and str(folder) in (process / "cmdline").read_text():
                os.kill(int(process.name), signal.SIGKILL)
        except (OSError, UnicodeDecodeError):
            continue
