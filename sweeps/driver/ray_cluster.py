"""The private Ray cluster of a driver: on this machine, or over all nodes of a SLURM job."""

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
from ear.process.children import kill_processes_naming, signals_kept_from_children
from slurm.allocation import Allocation
from slurm.gang import Gang
from slurm.ray_settings import OBJECT_STORE_BYTES, RAY_SETTINGS, ray_memory
from sweeps.driver.ray_private import ended_processes, job_config

SECRET = secrets.token_hex(32)


@contextmanager
def ray_cluster(cpus: int, gpus: int) -> Iterator[Path]:
    """Starts Ray, yields its temporary folder, and stops Ray and removes the folder at the end.

    Ray listens on loopback. In a job over several nodes it listens on the node's address, which is announced to the
    other nodes.

    Args:
        cpus: CPUs of this machine for trials.
        gpus: GPUs of this machine for trials.

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
        try:
            with started_or_lost(folder), signals_kept_from_children(all_of_a_job=allocation is not None):
                ray.init(
                    address="local",
                    job_config=job_config(),
                    num_cpus=cpus,
                    num_gpus=gpus,
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level="ERROR",
                    object_store_memory=OBJECT_STORE_BYTES,
                    _memory=ray_memory(allocation) if allocation else None,
                    # Not 127.0.0.1, which Ray replaces by the machine's address on its network.
                    _node_ip_address=gang.address() if gang else "127.0.0.2",
                    _temp_dir=str(folder / OF_RAY),
                )
            if gang:
                gang.announce(ray.get_runtime_context().gcs_address, token)
            yield folder
        finally:
            ray.shutdown()


class ClusterLost(BaseException):
    """Raised when one of Ray's own processes is gone, so that no trial can continue.

    Not an Exception: after one, Tune would wait for its trials.
    """


@contextmanager
def started_or_lost(folder: Path) -> Iterator[None]:
    """Turns a failed start of Ray into `ClusterLost`, and kills the processes that it left behind.

    Raises:
        ClusterLost: Ray did not start, for example because one of its processes was killed.
    """
    try:
        yield
    except Exception as error:
        kill_processes_naming(folder)
        raise ClusterLost(f"Ray did not start ({str(error).partition(chr(10))[0]})") from error


def require_alive() -> None:
    """Checks that Ray's core processes on this machine are alive.

    Without this check, a driver whose raylet is gone waits forever, and Ray ends a driver whose control store is gone
    after a minute.

    Raises:
        ClusterLost: one of them is gone.
    """
    for kind, code in ended_processes():
        if kind in ("raylet", "gcs_server"):
            how = f"was killed ({signal.Signals(-code).name})" if code and code < 0 else f"ended (exit code {code})"
            raise ClusterLost(f"Ray's process {kind} {how}")


def set_environment(token: Path) -> None:
    """Sets the environment variables that Ray and its processes read on import."""
    # The GCS listens on all addresses whatever its settings, so every driver has its own secret. A driver's successive
    # clusters share it, since Ray reads the secret only once.
    os.environ |= {**RAY_SETTINGS, "RAY_AUTH_TOKEN_PATH": str(token)}
