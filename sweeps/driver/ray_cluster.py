"""A Ray cluster for as long as a sweep runs, of this machine or of all nodes of a job, closed to everybody else."""

import os
import secrets
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType

from ear.errors import import_extra
from ear.files.private import write_secret
from ear.files.temporary import OF_RAY, temporary_folder
from ear.process.code import search_path
from slurm.allocation import Allocation
from slurm.gang import Gang
from slurm.ray_node import (
    OBJECT_STORE_BYTES,
    RAY_SETTINGS,
    kill_processes_naming,
    ray_memory,
    signals_kept_from_children,
)

SECRET = secrets.token_hex(32)


@contextmanager
def ray_cluster(cpus: int, gpus: int) -> Iterator[Path]:
    """Starts Ray and stops it at the end; yields its temporary folder, which goes with it.

    On loopback; the driver of a job over several nodes starts it where they can reach it, and lets them know.

    Args:
        cpus: of this machine, for trials.
        gpus: likewise.

    Raises:
        UserError: Ray is not installed, or a temporary folder can't be made.
        ClusterLost: Ray does not start.
    """
    gang, allocation = Gang.current(), Allocation.current()
    with ExitStack() as stack:
        folder = stack.enter_context(temporary_folder())
        if gang:
            token = stack.enter_context(gang.token(SECRET))
        else:
            write_secret(token := folder / "token", SECRET)
        set_environment(token)
        ray: ModuleType = import_extra("ray", "sweeps")
        import_extra("ray.tune", "sweeps")
        from ray.job_config import JobConfig

        try:
            with started_or_lost(folder), signals_kept_from_children(all_of_a_job=allocation is not None):
                ray.init(
                    address="local",
                    # As of a client's job, for which Ray does not put the driver's working directory first in the
                    # workers' `sys.path`: there may be another checkout there, or a `sweeps.py` of the user's.
                    job_config=JobConfig(_client_job=True, _py_driver_sys_path=search_path()),
                    num_cpus=cpus,
                    num_gpus=gpus,
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level="ERROR",
                    object_store_memory=OBJECT_STORE_BYTES,
                    _memory=ray_memory(allocation) if allocation else None,
                    # Ray takes 127.0.0.1 for the machine's address on its network.
                    _node_ip_address=gang.address() if gang else "127.0.0.2",
                    _temp_dir=str(folder / OF_RAY),
                )
            if gang:
                gang.announce(ray.get_runtime_context().gcs_address, token)
            yield folder
        finally:
            ray.shutdown()


class ClusterLost(BaseException):
    """Nothing gets on any more, since a process of Ray's own is gone. Not an Exception: Tune would wait after one."""


@contextmanager
def started_or_lost(folder: Path) -> Iterator[None]:
    """Leaves no process behind of a Ray in this folder that does not start, as when one of its own is killed."""
    try:
        yield
    except Exception as error:
        kill_processes_naming(folder)
        raise ClusterLost(f"Ray did not start ({str(error).partition(chr(10))[0]})") from error


def require_alive() -> None:
    """Looks at the processes that this driver's cluster stands on.

    Left alone, a driver whose raylet is gone waits for ever, and one whose control store is gone is ended by Ray after
    a minute.

    Raises:
        ClusterLost: one is gone.
    """
    import ray

    node = ray._private.worker.global_worker.node
    for kind, process in node.dead_processes() if node is not None else ():
        if kind in ("raylet", "gcs_server"):
            code = process.returncode
            how = f"was killed ({signal.Signals(-code).name})" if code and code < 0 else f"ended (exit code {code})"
            raise ClusterLost(f"Ray's process {kind} {how}")


def set_environment(token: Path) -> None:
    """What Ray, and the processes that it starts, read from the environment when they are imported."""
    # The GCS listens on all addresses whatever it is told, so every driver has a secret of its own. Its clusters, one
    # after another, share it, since Ray reads it only once.
    os.environ |= {**RAY_SETTINGS, "RAY_AUTH_TOKEN_PATH": str(token)}
