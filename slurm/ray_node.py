"""Joins this node to the Ray cluster of a driver on another node; also the Ray settings that all nodes share."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ear.files.temporary import OF_RAY, temporary_folder
from ear.process.code import code_environment
from slurm.allocation import Allocation

OBJECT_STORE_BYTES = 100 * 2**20  # enough: trials exchange only small dictionaries
RAY_SETTINGS = {
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # a trial with `gpus: 0` sees no GPU
    "RAY_AIR_NEW_OUTPUT": "0",  # the progress table replaces Tune's output
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the store and MLflow replace Tune's result files
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # the driver handles Ctrl-C itself
    "TUNE_GLOBAL_CHECKPOINT_S": "1e9",  # Tune's snapshots grow with the sweep, and nothing reads them
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # a relative output root means the same in a trial
}
"""Environment variables for every process of the cluster, on all nodes."""


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


def ray_memory(allocation: Allocation) -> int | None:
    """Returns the bytes of the allocation that trials may use; None if the cluster does not track memory."""
    return None if allocation.memory is None else max(allocation.memory - OBJECT_STORE_BYTES, OBJECT_STORE_BYTES)


@contextmanager
def signals_kept_from_children(*, all_of_a_job: bool = True) -> Iterator[None]:
    """Blocks signals in the processes that are started in this context: SIGHUP, which a closing terminal sends, and
    with `all_of_a_job` also SIGTERM, SIGUSR1 and SIGUSR2, which SLURM sends to all processes of a job.

    The processes inherit the signal mask, and none of Ray's processes changes it. Without it, a raylet would exit at
    once and kill its trials before they have saved; the driver ends them when they have.
    """
    blocked = {signal.SIGHUP} | ({signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2} if all_of_a_job else set())
    before = signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def kill_processes_naming(folder: Path) -> None:
    """Kills this user's processes whose command line contains a folder; Ray's processes name their temporary folder."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if process.stat().st_uid == os.getuid() and str(folder) in (process / "cmdline").read_text():
                os.kill(int(process.name), signal.SIGKILL)
        except (OSError, UnicodeDecodeError):
            continue
