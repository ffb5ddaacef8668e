"""User errors, as opposed to violated invariants of this program (which are `assert`s)."""

import importlib
from types import ModuleType


class UserError(ValueError):
    """Wrong input. The message says what is wrong, where, and how to fix it; the command line exits with code 2."""


def shortened(text: str, most: int = 200) -> str:
    """Shorten user input for a message: a text of more than `most` characters to its beginning and its length."""
    return text if len(text) <= most else f"{text[:most]}... ({len(text):,} characters)"


def import_extra(module: str, extra: str) -> ModuleType:
    """Import an optional dependency.

    Raises:
        UserError: the module is not installed; the message names the extra of this package that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"This needs {module}, which is not installed: pip install 'ear[{extra}]' ({error})."
        ) from error
