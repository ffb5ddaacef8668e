"""The SLURM allocation of this process, usually smaller than the machine."""

import os
from dataclasses import dataclass

SUPERVISED = "EAR_SUPERVISED"  # environment variable: set for a command whose job is requeued when it stops
LAST_STOP = "EAR_LAST_STOP"  # environment variable: the last stop request when the job was submitted
NOTHING_READY = 75  # exit code (EX_TEMPFAIL) of a driver that waits for others and whose job can be requeued


@dataclass(frozen=True)
class Allocation:
    """A SLURM job as seen by one of its tasks."""

    job: str  # job id; ARRAY_INDEX for a member of an array
    nodes: int
    cpus: int  # on this node
    gpus: int  # on this node
    memory: int | None  # bytes on this node; None if the cluster does not track memory
    address: str  # first node's address, as the others reach it
    rank: int  # of this task
    node: int  # index of this node in the job
    restarts: int  # how often the job was requeued
    may_leave: bool  # whether it is a supervised member of an array, which may give its machine back and be requeued

    @classmethod
    def current(cls) -> "Allocation | None":
        """Returns this process's allocation; None outside of a job's tasks and batch scripts."""
        if "SLURM_JOB_ID" not in os.environ or "SLURM_PROCID" not in os.environ:
            return None
        cpus = _number("SLURM_CPUS_ON_NODE") or 1
        per_cpu, per_node = _number("SLURM_MEM_PER_CPU"), _number("SLURM_MEM_PER_NODE")  # MB
        megabytes = per_node or (per_cpu * cpus if per_cpu else None)
        array = os.environ.get("SLURM_ARRAY_JOB_ID")
        return cls(
            job=f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ["SLURM_JOB_ID"],
            nodes=_number("SLURM_STEP_NUM_NODES") or _number("SLURM_NNODES") or 1,
            cpus=cpus,
            gpus=_number("SLURM_GPUS_ON_NODE") or _visible_gpus(),  # the variable is set only if there are GPUs
            memory=megabytes * 2**20 if megabytes else None,
            address=os.environ.get("SLURM_LAUNCH_NODE_IPADDR", "127.0.0.1"),
            rank=_number("SLURM_PROCID") or 0,
            node=_number("SLURM_NODEID") or 0,
            restarts=_number("SLURM_RESTART_COUNT") or 0,
            may_leave=array is not None and SUPERVISED in os.environ,
        )


def _visible_gpus() -> int:
    """The number of GPUs on clusters whose SLURM does not track GPUs."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return len(named.split(",")) if named and named != "NoDevFiles" else 0


def _number(name: str) -> int | None:
    try:
        return int(os.environ[name])
    except (KeyError, ValueError):
        return None
