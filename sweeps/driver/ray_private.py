"""Adapter for the private names of Ray that EAR uses. Tested with Ray 2.60; pyproject.toml has the upper bound.

Ray offers neither publicly: which modules its workers find first, and which of its own processes have ended. The
underscored arguments of `ray.init`, which its documentation lists, are in `ray_cluster.py`.
`tests/sweeps/test_ray_cluster.py` fails if an update changes what they do.
"""

from typing import Any

from ear.process.code import search_path


def job_config() -> Any:
    """Returns the configuration of a job whose workers find this code first, and not the working directory.

    By default Ray puts the driver's working directory first in the workers' `sys.path`, and that may hold another
    checkout or a user's `sweeps.py`. It does not for the jobs of Ray's client.
    """
    from ray.job_config import JobConfig

    return JobConfig(_client_job=True, _py_driver_sys_path=search_path())


def ended_processes() -> list[tuple[str, int | None]]:
    """Returns Ray's own processes on this machine that have ended: kind, such as `raylet`, and exit code."""
    from ray._private.worker import global_worker

    node = global_worker.node
    return [(kind, process.returncode) for kind, process in node.dead_processes()] if node is not None else []
