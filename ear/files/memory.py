"""Small results of long computations, remembered from one command to the next.

    ~/.cache/ear/KIND/DIGEST.json    (XDG_CACHE_HOME)

A result goes by a digest of everything that it follows from: what it was computed of, this program's code, the versions
of the libraries. So nothing in here is ever out of date, and all of it can be deleted.
"""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from ear.files.writing import write_text
from ear.process.code import OtherCodeError, code_digest

Value = TypeVar("Value")


def cache_folder() -> Path:
    """Of this program; nothing can be written below it where there is no home, as in some containers."""
    try:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:
        home = os.devnull
    return Path(home) / "ear"


def remembered(
    kind: str,
    of: Any,
    libraries: Sequence[str],
    compute: Callable[[], Value],
    *,
    to_json: Callable[[Value], Any],
    from_json: Callable[[Any], Value],
) -> Value:
    """What `compute` returns, or returned when it was called by the same code with the same libraries.

    Args:
        kind: a folder's name.
        of: what it is computed of, as a JSON value.
        libraries: distributions whose version can change the result.
        to_json: the result as a JSON value.
        from_json: the inverse; raises a ValueError, TypeError or KeyError for anything that is no result.
    """
    try:
        made_by = [code_digest(), *map(_version, libraries)]
    except OtherCodeError:  # nobody knows of which code it would be
        return compute()
    name = hashlib.sha256(json.dumps([of, *made_by], sort_keys=True).encode()).hexdigest()[:32]
    path = cache_folder() / kind / f"{name}.json"
    with suppress(OSError, ValueError, TypeError, KeyError):  # there is none, or a damaged one
        return from_json(json.loads(path.read_text(encoding="utf-8")))
    value = compute()
    with suppress(OSError):  # it can't be written: computed again by the next command
        write_text(path, json.dumps(to_json(value)) + "\n")
    return value


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
