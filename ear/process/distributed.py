"""Several processes, one training: what torchrun or a SLURM launcher started, as this process sees it."""

import errno
import ipaddress
import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from ear.errors import UserError

Value = TypeVar("Value", str, bool, str | None)

MEETING_FILE = "EAR_MEETING_FILE"  # of the environment
LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"  # the network interface
INTERFACES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")  # of the environment
NOT_OURS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)  # of an address
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
        """Rows [n_r, ...] of every process, one after the other, on the CPU; n_r may differ."""
        if self.count == 1:
            return rows.cpu()
        device = _collective_device()
        counts = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(self.count)]
        dist.all_gather(counts, torch.tensor([len(rows)], device=device))
        most = max(int(count) for count in counts)
        padded = rows.new_zeros((most, *rows.shape[1:]), device=device)
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in range(self.count)]
        dist.all_gather(parts, padded)
        return torch.cat([part[: int(count)].cpu() for part, count in zip(parts, counts, strict=True)])

    def from_main(self, value: Value) -> Value:
        """The main process's value, that all of them are to act on.

        As JSON: torch's own way is a pickle, which runs whatever somebody put into it on the way.
        """
        if self.count == 1:
            return value
        device = _collective_device()
        text = torch.tensor(list(json.dumps(value).encode()), dtype=torch.uint8, device=device)
        length = torch.tensor([len(text)], device=device)
        dist.broadcast(length, src=0)
        if not self.is_main:
            text = torch.empty(int(length), dtype=torch.uint8, device=device)
        dist.broadcast(text, src=0)
        received: Value = json.loads(bytes(text.cpu().tolist()))
        return received

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

    They meet in the file that EAR_MEETING_FILE names, if all are of one machine and the file where no other user can
    write; else at MASTER_ADDR:MASTER_PORT, where the one of rank 0 listens on that address alone if all can reach it.

    Raises:
        UserError: the environment names more than one process but no meeting point, or a port that is taken.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1 or dist.is_initialized():
        yield Processes(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else ALONE
        return
    if missing := _needed() - set(os.environ):
        raise UserError(
            f"WORLD_SIZE is {count}, but {', '.join(sorted(missing))} is not set: start with torchrun, for example "
            "torchrun --nproc-per-node 8 -m ear train CONFIG, or unset WORLD_SIZE."
        )
    if (backend := _backend(device)) == "nccl":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    with _same_afterwards(*INTERFACES):
        dist.init_process_group(backend, timeout=TIMEOUT, **_meeting())
        try:
            yield Processes(dist.get_rank(), dist.get_world_size())
        finally:
            dist.destroy_process_group()


def _backend(device: str) -> str:
    return "nccl" if device != "cpu" and torch.cuda.is_available() else "gloo"


@contextmanager
def _same_afterwards(*names: str) -> Iterator[None]:
    """Variables of the environment: a process of Ray's has another trial later."""
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    os.environ |= before
    try:
        yield
    finally:
        for name in names:
            os.environ.pop(name, None)
        os.environ |= before


def _needed() -> set[str]:
    """Variables of the environment."""
    return {"RANK", "LOCAL_RANK"} | (set() if MEETING_FILE in os.environ else {"MASTER_ADDR", "MASTER_PORT"})


def _meeting() -> dict[str, Any]:
    """Where the processes find one another: what `init_process_group` is given."""
    if "TORCHELASTIC_RUN_ID" in os.environ:  # torchrun has opened a store for them
        return {}
    rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    return {"store": _store(rank, count), "rank": rank, "world_size": count}


def _store(rank: int, count: int) -> Any:  # a Store: torch's types lack it and its kinds, which its manual names
    if MEETING_FILE in os.environ:
        # They reach one another on loopback, whatever address the machine's name stands for.
        os.environ |= dict.fromkeys(INTERFACES, LOOPBACK)
        store = dist.FileStore(os.environ[MEETING_FILE], count)  # type: ignore[attr-defined]
    else:
        store = _open_port(rank, count)
    store.set_timeout(TIMEOUT)  # of itself, 5 minutes
    return store


def _open_port(rank: int, count: int) -> Any:
    """
    Raises:
        UserError: this process is to listen on a port that can't be had.
    """
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    try:
        listening = _listen(host, port, count) if rank == 0 else None
        return dist.TCPStore(  # type: ignore[attr-defined]
            host,
            port,
            count,
            is_master=rank == 0,
            timeout=TIMEOUT,
            wait_for_workers=False,
            master_listen_fd=None if listening is None else listening.detach(),
        )
    except dist.DistNetworkError as error:
        if "EADDRINUSE" not in str(error):
            raise
        reason = os.strerror(errno.EADDRINUSE)
    except OSError as error:
        reason = error.strerror or str(error)
    raise UserError(
        f"MASTER_PORT {port} can't be listened on ({reason}): set MASTER_PORT to another, in all processes."
    )


def _listen(host: str, port: int, count: int) -> socket.socket | None:
    """Listens on one of this machine's addresses, where torch would on all of them.

    None where the others may have to reach another one: the host is none of this machine's, as in a container whose
    ports are passed on; or they are elsewhere, and it is a name, which may mean something else there, or loopback.

    Raises:
        OSError: the port can't be had.
    """
    if not (_all_are_here(count) or _is_the_same_everywhere(host)):
        return None
    try:
        family, *_, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(place[:2], family=family, backlog=max(count, 128))
    except socket.gaierror:
        return None
    except OSError as error:
        if error.errno not in NOT_OURS:
            raise
        return None


def _all_are_here(count: int) -> bool:
    """Whether all processes are known to be of this machine: by torchrun, submitit, or srun, that began as many."""
    if "LOCAL_WORLD_SIZE" in os.environ:
        return os.environ["LOCAL_WORLD_SIZE"] == str(count)
    return os.environ.get("SLURM_STEP_NUM_NODES") == "1" and os.environ.get("SLURM_STEP_NUM_TASKS") == str(count)


def _is_the_same_everywhere(host: str) -> bool:
    """Whether it is an address, and of one machine: not a name, and not loopback."""
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
