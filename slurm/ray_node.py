"""A node's part in a Ray cluster that a driver on another node began."""

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

OBJECT_STORE_BYTES = 100 * 2**20  # trials exchange nothing but small dictionaries
RAY_SETTINGS = {
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # a trial that is to have no GPU sees none
    "RAY_AIR_NEW_OUTPUT": "0",  # the live table is ours
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # so is the record of results
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # and so is Ctrl-C
    "TUNE_GLOBAL_CHECKPOINT_S": "1e9",  # Tune's snapshots grow with the sweep, and nobody reads them
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # a relative output root means the same in a trial
}
"""Of the environment, for every process of a cluster on whatever node."""


@dataclass(frozen=True)
class Head:
    """Where Ray's head is, for those that join."""

    address: str  # host:port of its control store
    token_file: str  # of the cluster's secret, in the shared folder, readable by its owner alone
    driver: int  # process id: another one means another head


class RayNode:
    """This node as a member of a Ray cluster."""

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
        return self._process.poll() is None

    def end(self) -> None:
        """Kills what is left of it; trials have saved by then, and their results are in the store."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        kill_processes_naming(self._folder)
        self._own.close()


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
def signals_kept_from_children(*, all_of_a_job: bool = True) -> Iterator[None]:
    """Processes started within never see SIGHUP, which a terminal sends to all of its processes as it is closed, nor
    SIGTERM, SIGUSR1 and SIGUSR2, which SLURM sends to `all_of_a_job`.

    They inherit a blocked mask, that none of Ray's processes lifts. A raylet would otherwise end at once, and take its
    trials with it before they have saved; the driver ends them when they have.
    """
    blocked = {signal.SIGHUP} | ({signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2} if all_of_a_job else set())
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
