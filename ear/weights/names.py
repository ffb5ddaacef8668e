"""Prefixes that training programs add to the names of weights."""

from collections.abc import Mapping
from typing import TypeVar

from ear.errors import UserError

Value = TypeVar("Value")
OF_PARALLEL = "module."  # from DataParallel and DistributedDataParallel
OF_COMPILER = "_orig_mod."  # from torch.compile, of the model or of any part


def plain_names(state: Mapping[str, Value]) -> dict[str, Value]:
    """Remove the prefixes of wrappers from names.

    Raises:
        UserError: two names become equal.
    """
    names = {name: name.replace(OF_COMPILER, "") for name in state}
    while names and all(plain.startswith(OF_PARALLEL) for plain in names.values()):
        names = {name: plain.removeprefix(OF_PARALLEL) for name, plain in names.items()}
    plain_state = {names[name]: value for name, value in state.items()}
    if len(plain_state) < len(state):
        raise UserError(f"it has weights of the same name with and without {OF_COMPILER}: give a file with one model.")
    return plain_state
