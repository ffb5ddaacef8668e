"""How many trials fit: on this machine, or in the SLURM allocation."""

import math

from ear.errors import UserError
from ear.process.cpus import usable_cpus
from slurm.allocation import Allocation
from slurm.gang import Gang
from sweeps.spec.schema import SweepConfig


def available_cpus() -> int:
    """Returns the CPUs that this process may use; in a container or a job, fewer than the machine has."""
    if (allocation := Allocation.current()) is not None:
        return allocation.cpus
    return usable_cpus()


def available_gpus() -> int:
    """Returns the GPUs that this process may use."""
    if (allocation := Allocation.current()) is not None:
        return allocation.gpus
    import torch

    return torch.cuda.device_count()


def trials_at_a_time(sweep: SweepConfig) -> int:
    """Returns how many trials run at a time: as many as fit this machine, or a job's identical nodes, up to the
    sweep's `concurrency`.

    Raises:
        UserError: no trial fits.
    """
    gang = Gang.current()
    fitting = trials_on_a_node(sweep) * (gang.allocation.nodes if gang else 1)
    return min(fitting, sweep.concurrency or fitting)


def node_share(sweep: SweepConfig, slots: int) -> tuple[int, int]:
    """Returns the CPUs and GPUs of this node for trials, when `slots` trials run at a time on all nodes together."""
    here = min(slots, trials_on_a_node(sweep))
    return here * sweep.resources.cpus, math.ceil(here * sweep.resources.gpus)


def trials_on_a_node(sweep: SweepConfig) -> int:
    """Returns how many trials fit this node at a time.

    Raises:
        UserError: no trial fits.
    """
    gpus = available_gpus() if sweep.resources.gpus else 0  # counting GPUs imports torch
    return trials_that_fit(sweep, available_cpus(), gpus, "this machine")


def trials_that_fit(sweep: SweepConfig, cpus: int, gpus: int, where: str) -> int:
    """Returns how many trials fit side by side into this many CPUs and GPUs; `where` names the place in the error.

    Raises:
        UserError: no trial fits.
    """
    resources = sweep.resources
    if resources.cpus > cpus or resources.gpus > gpus:
        raise UserError(
            f"{sweep.name}: resources: a trial needs {resources.cpus} CPUs and {resources.gpus:g} GPUs, but "
            f"{where} has {cpus} and {gpus}; lower `resources`."
        )
    fitting = cpus // resources.cpus
    if resources.gpus:
        fitting = min(fitting, int(gpus / resources.gpus + 1e-9))
    return fitting
