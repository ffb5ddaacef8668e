"""This program's own code: where it lies, what it is, and how other processes are made to run the very same.

Python looks for modules in the working directory first wherever it is started with `-m` or `-c`, and Ray in each of its
workers. There may be another checkout there, or a `sweeps.py` of the user's.
"""

import hashlib
import os
import sys
import sysconfig
from functools import cache
from pathlib import Path

from ear.errors import UserError

FOLDER = Path(__file__).resolve().parents[2]  # that the packages lie in
PACKAGES = ("ear", "slurm", "sweeps")  # that results are made with
TRIES_TO_READ = 2


class OtherCodeError(UserError):
    """A process would make results of other code than the one that asked for them, and that names them."""


def search_path() -> list[str]:
    """Folders that must come first in another process's `sys.path`; none for a package that is installed as a copy.

    That folder is searched anyway, and before the standard library it would bring packages that replace parts of it.
    """
    installed = {Path(sysconfig.get_path(kind)).resolve() for kind in ("purelib", "platlib")}
    return [] if FOLDER in installed else [str(FOLDER)]


def code_environment() -> dict[str, str]:
    """Of the environment, for processes that are started with `-P`: they find this code before any other."""
    given = os.environ.get("PYTHONPATH")
    path = [*search_path(), *([given] if given else [])]
    return {"PYTHONPATH": os.pathsep.join(path)} if path else {}


@cache
def code_digest() -> str:
    """SHA-256 of all sources as they are when this is called first: in a young process, of what it runs.

    Raises:
        OtherCodeError: they are being changed at this moment.
    """
    for _ in range(TRIES_TO_READ):
        try:
            return _digest_of_sources()
        except FileNotFoundError:  # between the listing and the reading: an editor that saves, a checkout
            continue
    raise OtherCodeError(f"The code in {FOLDER} is being changed: files vanish while it is read")


def _digest_of_sources() -> str:
    digest = hashlib.sha256()
    for path in sorted(path for package in PACKAGES for path in (FOLDER / package).rglob("*.py") if _is_source(path)):
        digest.update(f"{path.relative_to(FOLDER)}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _is_source(path: Path) -> bool:
    """Whether Python can import it; not what editors put beside it, as Emacs' dangling link `.#runner.py`."""
    return path.is_file() and not any(part.startswith(".") for part in path.relative_to(FOLDER).parts)


def require_same_code(digest: str) -> None:
    """
    Raises:
        OtherCodeError: this process runs other code than the one with this digest.
    """
    if code_digest() != digest:
        raise OtherCodeError(
            f"The code in {FOLDER} is not what this sweep was begun with: it has been changed since, or belongs to "
            "another checkout; results of both would mix"
        )


def leave_working_directory() -> None:
    """Takes the working directory, where `python -m` looks first, out of `sys.path`, unless this code lies there."""
    if not sys.flags.safe_path and sys.path and Path(sys.path[0] or ".").resolve() == Path.cwd() != FOLDER:
        del sys.path[0]
