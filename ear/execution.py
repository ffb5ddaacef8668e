"""How a run is carried out on this machine: device and threads."""

import torch

from ear.config.schema import ExecutionConfig
from ear.errors import UserError


def set_up(config: ExecutionConfig) -> torch.device:
    """Sets torch's threads and returns the device.

    Raises:
        UserError: a GPU is asked for and there is none.
    """
    torch.set_num_threads(config.threads)
    return choose_device(config)


def choose_device(config: ExecutionConfig) -> torch.device:
    """The configured device; `auto` is the GPU where there is one."""
    if config.device == "cuda" and not torch.cuda.is_available():
        raise UserError("execution.device: cuda, but torch sees no GPU here; use auto or cpu.")
    return torch.device("cpu" if config.device == "cpu" or not torch.cuda.is_available() else "cuda")
