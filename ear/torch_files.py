"""Reading files that torch.save wrote, without executing anything that is in them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ear.errors import UserError


def read_torch_file(path: Path, *, classes: Sequence[type] = (), device: str = "cpu") -> Any:
    """Tensors and plain values; of other classes only those allowed.

    Raises:
        UserError: there is no such file, or it is damaged or holds more than that.
    """
    try:
        with torch.serialization.safe_globals(list(classes)):
            return torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"There is no file {path}.") from error
    except Exception as error:  # torch's unpickler meets damaged bytes with errors of any class
        raise UserError(
            f"{path} is damaged or holds more than weights ({first_line(error)}): fetch it again."
        ) from error


def first_line(error: BaseException) -> str:
    """The beginning of an error's message, or its class where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
