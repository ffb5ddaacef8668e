"""Device, threads and precision with which this process executes a run."""

import os

import torch
from torch import Tensor

from ear.config.schema import ExecutionConfig
from ear.errors import UserError
from ear.files.private import keep_private
from ear.files.temporary import short_parent, shorten_workers_sockets
from ear.process.cpus import usable_cpus


def set_up(config: ExecutionConfig) -> torch.device:
    """Set the number of torch's threads and return the device.

    Raises:
        UserError: the configuration needs a GPU, but there is none.
    """
    torch.set_num_threads(config.threads)
    return choose_device(config)


def choose_device(config: ExecutionConfig) -> torch.device:
    """The configured device, with TF32 turned off; `auto` is the GPU if there is one.

    Raises:
        UserError: the configuration needs a GPU, but there is none.
    """
    # By default torch computes float32 convolutions on a GPU (in the autoencoder and Inception) in TF32.
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    if config.device == "cuda" and not torch.cuda.is_available():
        raise UserError("execution.device: cuda, but torch sees no GPU here; use auto or cpu.")
    return torch.device("cpu" if config.device == "cpu" or not torch.cuda.is_available() else "cuda")


def keep_compiled_code_private() -> None:
    """Make torch.compile keep its compiled code, which it executes again later, where nobody else can write.

    Its default is /tmp/torchinductor_USER, which another user could create first.

    Raises:
        UserError: the folder belongs to another user.
    """
    variable = "TORCHINDUCTOR_CACHE_DIR"
    if variable not in os.environ:
        folder = short_parent(0) / f"torchinductor_{os.getuid()}"
        keep_private(folder, f"folder with {variable}")
        os.environ[variable] = str(folder)


def worker_processes(config: ExecutionConfig) -> int:
    """The configured number of workers, at most one for each usable CPU."""
    workers = min(config.workers, usable_cpus())
    if workers:
        shorten_workers_sockets()
    return workers


def autocast(config: ExecutionConfig, device: torch.device) -> torch.autocast:
    """The autocast context for models: bfloat16 matrix products if configured."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=config.precision == "bfloat16")


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to a device. Copies to a GPU are asynchronous, through pinned memory."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
