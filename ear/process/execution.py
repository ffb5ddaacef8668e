"""How a run is carried out on this machine: device, threads, precision."""

import os

import torch
from torch import Tensor

from ear.config.schema import ExecutionConfig
from ear.errors import UserError
from ear.files.private import keep_private
from ear.files.temporary import short_parent, shorten_workers_sockets
from ear.process.cpus import usable_cpus


def set_up(config: ExecutionConfig) -> torch.device:
    """Sets torch's threads and returns the device.

    Raises:
        UserError: a GPU is asked for and there is none.
    """
    torch.set_num_threads(config.threads)
    return choose_device(config)


def choose_device(config: ExecutionConfig) -> torch.device:
    """The configured device, on which float32 means float32; `auto` is the GPU where there is one."""
    # Unless told otherwise, torch rounds a GPU's float32 convolutions, the autoencoder's and Inception's, to TF32.
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    if config.device == "cuda" and not torch.cuda.is_available():
        raise UserError("execution.device: cuda, but torch sees no GPU here; use auto or cpu.")
    return torch.device("cpu" if config.device == "cpu" or not torch.cuda.is_available() else "cuda")


def keep_compiled_code_private() -> None:
    """Has torch.compile keep what it compiled, and runs again later, where nobody else may write.

    Of itself it takes /tmp/torchinductor_USER, which anybody may make first.

    Raises:
        UserError: the folder is another user's.
    """
    variable = "TORCHINDUCTOR_CACHE_DIR"
    if variable not in os.environ:
        folder = short_parent(0) / f"torchinductor_{os.getuid()}"
        keep_private(folder, f"place with {variable}")
        os.environ[variable] = str(folder)


def worker_processes(config: ExecutionConfig) -> int:
    """The configured workers, at most one for each CPU that this process may use."""
    workers = min(config.workers, usable_cpus())
    if workers:
        shorten_workers_sockets()
    return workers


def autocast(config: ExecutionConfig, device: torch.device) -> torch.autocast:
    """The context in which models run: bfloat16 matrix products where the configuration says so."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=config.precision == "bfloat16")


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copies to a GPU without waiting for it, which needs pinned memory."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
