"""Distributed processes, as started by torchrun or a SLURM launcher."""

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

MEETING_FILE = "EAR_MEETING_FILE"  # environment variable
LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"  # the network interface
INTERFACES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")  # environment variables
NOT_OURS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)  # errors for an address that is not of this machine
TIMEOUT = timedelta(minutes=30)  # of a collective; others may wait that long for a process that writes a checkpoint


@dataclass(frozen=True)
class Processes:
    """This process's rank among the processes that work together. With one process, all operations are the identity."""

    rank: int = 0
    count: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and prints."""
        return self.rank == 0

    def share(self, total: int) -> range:
        """This process's contiguous share of `total` items; shares differ in size by at most one."""
        return range(self.rank * total // self.count, (self.rank + 1) * total // self.count)

    def sum_(self, value: Tensor) -> Tensor:
        """Sum a tensor over the processes, in place. Does not wait for the device."""
        if self.count > 1:
            dist.all_reduce(value)
        return value

    def any(self, flag: bool) -> bool:
        """Whether `flag` is True in at least one process; all processes get the same answer."""
        if self.count == 1:
            return flag
        value = torch.tensor(float(flag), device=_collective_device())
        dist.all_reduce(value, dist.ReduceOp.MAX)
        return bool(value.item())

    def gather_rows(self, rows: Tensor) -> Tensor:
        """Concatenate the rows [n_r, ...] of all processes, on the CPU; n_r may differ."""
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
        """Send the main process's value to all processes.

        It is sent as JSON: torch would send a pickle, which can execute code if it is manipulated on the way.
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
        """Wait until all processes have called this."""
        self.any(False)


ALONE = Processes()


def _collective_device() -> torch.device:
    return torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")


@contextmanager
def joined_processes(device: str = "auto") -> Iterator[Processes]:
    """Connect the processes of torchrun's environment (RANK, WORLD_SIZE, LOCAL_RANK) within this context.

    Without that environment there is only this process. The processes meet through the file EAR_MEETING_FILE, for
    processes of one machine and in a folder that other users can't write to. Otherwise they meet at
    MASTER_ADDR:MASTER_PORT, where rank 0 listens only on that address if all processes can reach it.

    Args:
        device: the configured `execution.device`: NCCL connects GPUs, gloo CPUs.

    Raises:
        UserError: the environment has several processes but no meeting point, or the port is in use.
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
    """Restore environment variables at the end, since a Ray process runs other trials later."""
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    os.environ |= before
    try:
        yield
    finally:
        for name in names:
            os.environ.pop(name, None)
        os.environ |= before


def _needed() -> set[str]:
    """The environment variables that must be set."""
    return {"RANK", "LOCAL_RANK"} | (set() if MEETING_FILE in os.environ else {"MASTER_ADDR", "MASTER_PORT"})


def _meeting() -> dict[str, Any]:
    """The arguments of `init_process_group` for how the processes find each other."""
    if "TORCHELASTIC_RUN_ID" in os.environ:  # torchrun has opened a store
        return {}
    rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    return {"store": _store(rank, count), "rank": rank, "world_size": count}


def _store(rank: int, count: int) -> Any:  # a torch Store, which is documented but missing in torch's types
    if MEETING_FILE in os.environ:
        # They connect through loopback, whatever address the machine's name resolves to.
        os.environ |= dict.fromkeys(INTERFACES, LOOPBACK)
        store = dist.FileStore(os.environ[MEETING_FILE], count)  # type: ignore[attr-defined]
    else:
        store = _open_port(rank, count)
    store.set_timeout(TIMEOUT)  # the default is 5 minutes
    return store


def _open_port(rank: int, count: int) -> Any:
    """A store at MASTER_ADDR:MASTER_PORT, served by rank 0.

    Raises:
        UserError: this process must listen on the port but can't.
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
    raise UserError(f"Can't listen on MASTER_PORT {port} ({reason}): set MASTER_PORT to another port in all processes.")


def _listen(host: str, port: int, count: int) -> socket.socket | None:
    """Listen on only one of this machine's addresses; torch would listen on all of them.

    Returns None if other processes may have to use another address: the host is not an address of this machine, as in a
    container with forwarded ports; or the others are on other machines and the host is a name, which may resolve
    differently there, or loopback.

    Raises:
        OSError: the port is not available.
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
    """Whether all processes are known to run on this machine, from the environment of torchrun, submitit or srun."""
    if "LOCAL_WORLD_SIZE" in os.environ:
        return os.environ["LOCAL_WORLD_SIZE"] == str(count)
    return os.environ.get("SLURM_STEP_NUM_NODES") == "1" and os.environ.get("SLURM_STEP_NUM_TASKS") == str(count)


def _is_the_same_everywhere(host: str) -> bool:
    """Whether `host` means the same machine everywhere: it is an address, not a name, and not loopback."""
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
