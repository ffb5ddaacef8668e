"""How many trials there is a place for: on this machine, or in what SLURM granted of one or several."""

import math

from ear.errors import UserError
from ear.process.cpus import usable_cpus
from slurm.allocation import Allocation
from slurm.gang import Gang
from sweeps.spec.schema import SweepConfig


def available_cpus() -> int:
    """CPUs of this node for this process, which in a container or a job are fewer than the machine's."""
    if (allocation := Allocation.current()) is not None:
        return allocation.cpus
    return usable_cpus()


def available_gpus() -> int:
    if (allocation := Allocation.current()) is not None:
        return allocation.gpus
    import torch

    return torch.cuda.device_count()


def trials_at_a_time(sweep: SweepConfig) -> int:
    """How many trials fit this machine, or all nodes of a job that are alike, at most the sweep's concurrency.

    Raises:
        UserError: not even one does.
    """
    gang = Gang.current()
    fitting = trials_on_a_node(sweep) * (gang.allocation.nodes if gang else 1)
    return min(fitting, sweep.concurrency or fitting)


def node_share(sweep: SweepConfig, slots: int) -> tuple[int, int]:
    """CPUs and GPUs of this node for trials, of which `slots` run at a time on all nodes."""
    here = min(slots, trials_on_a_node(sweep))
    return here * sweep.resources.cpus, math.ceil(here * sweep.resources.gpus)


def trials_on_a_node(sweep: SweepConfig) -> int:
    """
    Raises:
        UserError: not even one fits.
    """
    gpus = available_gpus() if sweep.resources.gpus else 0  # not asked for nothing: that imports torch
    return trials_that_fit(sweep, available_cpus(), gpus, "this machine")


def trials_that_fit(sweep: SweepConfig, cpus: int, gpus: int, where: str) -> int:
    """Side by side in a place with so many CPUs and GPUs.

    Raises:
        UserError: not even one.
    """
    resources = sweep.resources
    if resources.cpus > cpus or resources.gpus > gpus:
        raise UserError(
            f"{sweep.name}: resources: a trial is to have {resources.cpus} CPUs and {resources.gpus:g} GPUs, "
            f"{where} has {cpus} and {gpus}; lower them."
        )
    fitting = cpus // resources.cpus
    if resources.gpus:
        fitting = min(fitting, int(gpus / resources.gpus + 1e-9))
    return fitting
