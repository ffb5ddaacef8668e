"""Joins this node to the Ray cluster of a driver on another node."""

import os
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from ear.files.temporary import OF_RAY, temporary_folder
from ear.process.children import kill_processes_naming, signals_kept_from_children
from ear.process.code import code_environment
from slurm.allocation import Allocation
from slurm.ray_settings import OBJECT_STORE_BYTES, RAY_SETTINGS, ray_memory


@dataclass(frozen=True)
class Head:
    """The address of Ray's head, for nodes that join."""

    address: str  # host:port of the head's control store
    token_file: str  # file with the cluster's secret, in the shared folder, readable only by its owner
    driver: int  # the driver's process id; a different one means a new head


class RayNode:
    """This node as a member of a Ray cluster: starts Ray on creation."""

    def __init__(self, allocation: Allocation, head: Head) -> None:
        self._own = ExitStack()
        self._folder = self._own.enter_context(temporary_folder())
        options = {
            "address": head.address,
            "node-ip-address": own_address(head.address),
            "temp-dir": self._folder / OF_RAY,
            "num-cpus": allocation.cpus,
            "num-gpus": allocation.gpus,
            "memory": ray_memory(allocation),
            "object-store-memory": OBJECT_STORE_BYTES,
        }
        given = [f"--{name}={value}" for name, value in options.items() if value is not None]
        command = [sys.executable, "-P", "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"]
        with signals_kept_from_children():
            self._process = subprocess.Popen(
                [*command, *given],
                env={**os.environ, **code_environment(), **RAY_SETTINGS, "RAY_AUTH_TOKEN_PATH": head.token_file},
                start_new_session=True,
            )

    @property
    def alive(self) -> bool:
        """Whether Ray still runs on this node."""
        return self._process.poll() is None

    def end(self) -> None:
        """Kills Ray on this node; its trials have saved by then."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        kill_processes_naming(self._folder)
        self._own.close()


def own_address(other: str) -> str:
    """Returns the address of this machine from which it reaches `other`, a host:port."""
    host, _, port = other.rpartition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, int(port)))  # a datagram socket: sends nothing
        return str(probe.getsockname()[0])
