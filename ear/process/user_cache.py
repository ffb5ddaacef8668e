"""A cache of small results of long computations, shared by all commands of a user.

    ~/.cache/ear/KIND/DIGEST.json    (XDG_CACHE_HOME)

A result's name is a digest of everything that it depends on: its inputs, this program's code, the versions of the
libraries. So no entry is ever out of date, and all of them can be deleted.
"""

import json
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from ear.config.hashing import digest
from ear.files.writing import write_text
from ear.process.code import OtherCodeError, code_digest
from ear.process.provenance import version

Value = TypeVar("Value")


def cache_folder() -> Path:
    """This program's cache folder. Without a home, as in some containers, nothing can be written below it."""
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
    """The result of `compute`, from the cache if the same code and libraries computed it before.

    Args:
        kind: the folder's name.
        of: the inputs of the computation, as a JSON value.
        libraries: distributions whose version can change the result.
        to_json: converts the result to a JSON value.
        from_json: the inverse; raises ValueError, TypeError or KeyError for anything else.
    """
    try:
        made_by = [code_digest(), *map(version, libraries)]
    except OtherCodeError:  # the code is being changed, so its digest is unknown
        return compute()
    name = digest([of, *made_by])[:32]
    path = cache_folder() / kind / f"{name}.json"
    with suppress(OSError, ValueError, TypeError, KeyError):  # missing or damaged
        return from_json(json.loads(path.read_text(encoding="utf-8")))
    value = compute()
    with suppress(OSError):  # not writable: the next command computes it again
        write_text(path, json.dumps(to_json(value)) + "\n")
    return value
