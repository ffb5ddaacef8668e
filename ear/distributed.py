"""Several processes, one training: what torchrun or a SLURM launcher started, as this process sees it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from ear.errors import UserError

Value = TypeVar("Value")

TIMEOUT = timedelta(minutes=30)  # of a collective; the others wait that long for one that writes a checkpoint


@dataclass(frozen=True)
class Processes:
    """This process among those that work together. Alone, every operation is the identity."""

    rank: int = 0
    count: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the one process that writes and speaks."""
        return self.rank == 0

    def share(self, total: int) -> range:
        """This process's contiguous part of `total` things; the parts differ by one at most."""
        return range(self.rank * total // self.count, (self.rank + 1) * total // self.count)

    def sum_(self, value: Tensor) -> Tensor:
        """Sums a tensor over the processes, in place. Does not wait for the device."""
        if self.count > 1:
            dist.all_reduce(value)
        return value

    def any(self, flag: bool) -> bool:
        """Whether the flag is up in one process at least; all of them get the same answer."""
        if self.count == 1:
            return flag
        value = torch.tensor(float(flag), device=_collective_device())
        dist.all_reduce(value, dist.ReduceOp.MAX)
        return bool(value.item())

    def gather_rows(self, rows: Tensor) -> Tensor:
        """Rows [n_r, ...] of every process, one after the other, on the CPU."""
        if self.count == 1:
            return rows.cpu()
        parts: list[Tensor] = [torch.empty(0)] * self.count
        dist.all_gather_object(parts, rows.cpu())
        return torch.cat(parts)

    def from_main(self, value: Value) -> Value:
        """The main process's value, that all of them are to act on; it has to be one that can be pickled."""
        if self.count == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]

    def wait(self) -> None:
        """Returns once every process has come here."""
        self.any(False)


ALONE = Processes()


def _collective_device() -> torch.device:
    return torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")


@contextmanager
def joined_processes(device: str = "auto") -> Iterator[Processes]:
    """The processes of torchrun's environment (RANK, WORLD_SIZE, LOCAL_RANK), connected while inside; else alone.

    Args:
        device: `execution.device` of what they do together: NCCL connects GPUs, gloo CPUs.

    Raises:
        UserError: the environment names more than one process but no meeting point.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1 or dist.is_initialized():
        yield Processes(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else ALONE
        return
    if missing := {"RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"} - set(os.environ):
        raise UserError(
            f"WORLD_SIZE is {count}, but {', '.join(sorted(missing))} is not set: start with torchrun, for example "
            "torchrun --nproc-per-node 8 -m ear train CONFIG, or unset WORLD_SIZE."
        )
    backend = "gloo"
    if device != "cpu" and torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        backend = "nccl"
    dist.init_process_group(backend, timeout=TIMEOUT)
    try:
        yield Processes(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()
