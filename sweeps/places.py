"""How many trials this machine has a place for."""

import os

from ear.errors import UserError
from sweeps.schema import SweepConfig


def available_cpus() -> int:
    """CPUs that this process may use, which in a container or a job are fewer than the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_gpus() -> int:
    import torch

    return torch.cuda.device_count()


def trials_at_a_time(sweep: SweepConfig) -> int:
    """How many trials fit this machine, at most the sweep's concurrency.

    Raises:
        UserError: not even one does.
    """
    resources = sweep.resources
    cpus, gpus = available_cpus(), available_gpus() if resources.gpus else 0
    if resources.cpus > cpus or resources.gpus > gpus:
        raise UserError(
            f"{sweep.name}: resources: a trial is to have {resources.cpus} CPUs and {resources.gpus:g} GPUs, "
            f"this machine has {cpus} and {gpus}; lower them."
        )
    fitting = cpus // resources.cpus
    if resources.gpus:
        fitting = min(fitting, int(gpus / resources.gpus + 1e-9))
    return min(fitting, sweep.concurrency or fitting)
