"""Reads files of torch.save without executing any code in them.

torch's restricted unpickler reads them (weights_only=True). It supports tensors and plain values; `HARMLESS` adds
classes that are common in the settings of checkpoints. Any other class is refused by name. If only some parts of a file
are needed, classes in the other parts are not imported either: inert stand-ins replace them.
"""

import argparse
import re
import types
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import torch

from ear.errors import UserError
from ear.files.kinds import is_safetensors, other_content

MOST_NAMED = 5  # classes in one message


def read_torch_file(path: Path, *, parts: Sequence[str] = (), device: str = "cpu") -> Any:
    """Read the tensors and plain values in a file of torch.save.

    Args:
        parts: if the file has a dictionary with any of these keys, only these are returned. Its other values may be of
            any class, such as callbacks and hyperparameters in Lightning's checkpoints.

    Raises:
        UserError: the file is missing, damaged or of another kind, or has a class that is not allowed.
    """
    _require_readable(path)
    foreign = _foreign_classes(path)
    if foreign and not parts:
        raise UserError(_refusal(path, foreign))
    content = _load(path, foreign, device)
    if isinstance(content, dict) and any(part in content for part in parts):
        content = {part: content[part] for part in parts if part in content}
    try:
        found = sorted(set(_stand_ins(content))) if foreign else []
    except RecursionError as error:
        raise UserError(f"{path} has values nested too deeply to be read: save only the weights.") from error
    if found:
        raise UserError(_refusal(path, found))
    return content


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or the name of its class if there is none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _require_readable(path: Path) -> None:
    try:
        if (content := other_content(path)) is not None:
            raise UserError(f"{path} is {content}.")
        if is_safetensors(path):
            raise UserError(f"{path} is a safetensors file, not one of torch.save: check the path.")
    except FileNotFoundError as error:
        raise UserError(f"There is no file {path}.") from error
    except OSError as error:
        raise UserError(
            f"{path} can't be read ({error.strerror or error}): check the path and its permissions."
        ) from error


def _load(path: Path, foreign: Sequence[str], device: str) -> Any:
    classes = [*HARMLESS, *((_stand_in(name), name) for name in foreign)]
    with torch.serialization.safe_globals(classes), warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            with path.open("rb") as file:  # with a path, torch would go by its suffix
                return torch.load(file, map_location=device, weights_only=True)
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # torch's unpickler raises all kinds of errors on damaged bytes
            if "can't allocate memory" in str(error):
                raise
            said = "\n".join([str(error), *(str(warning.message) for warning in warned)])
            raise UserError(_reason(path, foreign, said)) from error


def _reason(path: Path, foreign: Sequence[str], said: str) -> str:
    """torch's message, without its advice to allow code execution."""
    if named := re.search(r"GLOBAL (\S+) (?:was not an allowed|whose module)", said):
        return _refusal(path, [named[1]])
    if foreign:
        return _refusal(path, foreign)
    if protocol := re.search(r"Detected pickle protocol (\d+)", said):
        return (
            f"{path} was written with pickle protocol {protocol[1]}, which can't be read safely: save its content "
            "again with torch.save's default protocol, 2."
        )
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    detail = lines[0] if lines and "weights_only" not in lines[0] else "its pickle is truncated or has wrong bytes"
    return f"{path} is damaged ({detail}): download it again."


def _refusal(path: Path, classes: Sequence[str]) -> str:
    named = ", ".join(classes[:MOST_NAMED])
    more = f" and {len(classes) - MOST_NAMED} more" if len(classes) > MOST_NAMED else ""
    return (
        f"{path} has {named}{more} where weights or plain values are needed. Other classes are not read, since that "
        "would execute code from the file: save only the weights (a state_dict of tensors) and give that file."
    )


def _foreign_classes(path: Path) -> list[str]:
    """The names of all classes and functions in the file that are not allowed.

    Empty for torch.save's layout before version 1.6; loading such a file reports the first one.
    """
    try:
        with torch.serialization.safe_globals(HARMLESS):
            return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # damaged, or of that layout; loading reports which
        return []


class _StandIn(type):
    """Metaclass of classes that replace a class that is not allowed, and do nothing."""

    def __eq__(cls, other: object) -> bool:
        # torch's unpickler sets items only on dictionaries, which it detects by comparing classes.
        return cls is other or other is OrderedDict

    __hash__ = type.__hash__


class _Inert(metaclass=_StandIn):
    def __new__(cls, *_: object, **__: object) -> "_Inert":
        return object.__new__(cls)

    def __init__(self, *_: object, **__: object) -> None: ...
    def __setstate__(self, _: object) -> None: ...
    def __setitem__(self, _: object, __: object) -> None: ...


def _stand_in(name: str) -> _StandIn:
    return _StandIn(name, (_Inert,), {})


def _stand_ins(value: Any, seen: set[int] | None = None) -> Iterator[str]:
    """The class names of all stand-ins inside a value.

    Each object is visited once: a few nested lists can contain one object a billion times, or themselves.
    """
    seen = set() if seen is None else seen
    if id(value) in seen:
        return
    seen.add(id(value))  # ids stay valid, since all objects stay alive
    if isinstance(value, _StandIn):
        yield value.__name__
    elif isinstance(value, _Inert):
        yield type(value).__name__
    elif isinstance(value, Mapping):
        for key, inside in value.items():
            yield from _stand_ins(key, seen)
            yield from _stand_ins(inside, seen)
    elif isinstance(value, list | tuple | set):
        for inside in value:
            yield from _stand_ins(inside, seen)
    elif isinstance(value, argparse.Namespace | types.SimpleNamespace):
        yield from _stand_ins(vars(value), seen)


class _NumpyType:
    """Stand-in for numpy.dtype of a number or string, from its code (f8) and byte order (<)."""

    def __init__(self, code: str, *_: object) -> None:
        if not re.fullmatch(r"[biufU]\d{1,4}", code):
            raise ValueError(f"a numpy value of type {code}")
        self.type = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, order, *rest = state
        if rest[:3] != [None] * 3 or order not in "<>|=":  # only numbers and strings; numpy itself trusts the file
            raise ValueError(f"a numpy type of state {state}")
        self.type = self.type.newbyteorder(order)


def _numpy_scalar(kind: _NumpyType, content: bytes) -> Any:
    """Convert a pickled numpy number to a Python number."""
    return np.frombuffer(content, kind.type, 1)[0].item()


_PATHS = {
    "PosixPath": PurePosixPath,
    "PurePosixPath": PurePosixPath,
    "WindowsPath": PureWindowsPath,  # a WindowsPath can't be created on other systems
    "PureWindowsPath": PureWindowsPath,
}
HARMLESS: list[Any] = [
    argparse.Namespace,
    types.SimpleNamespace,
    *((kind, f"{module}.{name}") for name, kind in _PATHS.items() for module in ("pathlib", "pathlib._local")),
    (_NumpyType, "numpy.dtype"),
    (_numpy_scalar, "numpy.core.multiarray.scalar"),  # before NumPy 2
    (_numpy_scalar, "numpy._core.multiarray.scalar"),
]
"""Allowed besides tensors and plain values: classes, or pairs of a callable and the name in the file that it serves."""
