"""Errors that are the user's to mend, as opposed to invariants of ours (which are `assert`s)."""

import importlib
from types import ModuleType


class UserError(ValueError):
    """Wrong input. The message says what is wrong, where, and how to mend it; the command line exits with 2."""


def shortened(text: str, most: int = 200) -> str:
    """A text of the user's for a message: its beginning, and how long it is, where it is long."""
    return text if len(text) <= most else f"{text[:most]}... ({len(text):,} characters)"


def import_extra(module: str, extra: str) -> ModuleType:
    """Imports an optional dependency, or says in one sentence which extra of this package brings it.

    Raises:
        UserError: the module is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"This needs {module}, which is not installed: pip install 'ear[{extra}]' ({error})."
        ) from error
