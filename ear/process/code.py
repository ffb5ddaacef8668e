"""The program's own code: its location, its hash, and how other processes are made to run the same code.

With `-m` or `-c`, and in Ray's workers, Python searches the working directory first. It may contain another checkout,
or a file `sweeps.py` of the user.
"""

import hashlib
import os
import sys
import sysconfig
from functools import cache
from pathlib import Path

from ear.errors import UserError

FOLDER = Path(__file__).resolve().parents[2]  # the folder of the packages
PACKAGES = ("ear", "slurm", "sweeps")  # the packages that compute results
TRIES_TO_READ = 2


class OtherCodeError(UserError):
    """A process would compute results with other code than the process that requested them."""


def search_path() -> list[str]:
    """Folders that must come first in another process's `sys.path`; none if the package is in site-packages.

    site-packages is searched anyway, and before the standard library its packages could replace parts of that.
    """
    installed = {Path(sysconfig.get_path(kind)).resolve() for kind in ("purelib", "platlib")}
    return [] if FOLDER in installed else [str(FOLDER)]


def code_environment() -> dict[str, str]:
    """Environment variables for processes started with `-P`, so that they find this code first."""
    given = os.environ.get("PYTHONPATH")
    path = [*search_path(), *([given] if given else [])]
    return {"PYTHONPATH": os.pathsep.join(path)} if path else {}


@cache
def code_digest() -> str:
    """SHA-256 of all source files, computed on the first call, which should come early in a process.

    Raises:
        OtherCodeError: files are being changed right now.
    """
    for _ in range(TRIES_TO_READ):
        try:
            return _digest_of_sources()
        except FileNotFoundError:  # between listing and reading, an editor saved or a checkout changed files
            continue
    raise OtherCodeError(f"The code in {FOLDER} is being changed: files disappear while they are read")


def _digest_of_sources() -> str:
    digest = hashlib.sha256()
    for path in sorted(path for package in PACKAGES for path in (FOLDER / package).rglob("*.py") if _is_source(path)):
        digest.update(f"{path.relative_to(FOLDER)}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _is_source(path: Path) -> bool:
    """Whether Python can import the file; not files of editors, such as Emacs' dangling link `.#runner.py`."""
    return path.is_file() and not any(part.startswith(".") for part in path.relative_to(FOLDER).parts)


def require_same_code(digest: str) -> None:
    """Check that this process runs the code with this digest.

    Raises:
        OtherCodeError: it runs other code.
    """
    if code_digest() != digest:
        raise OtherCodeError(
            f"The code in {FOLDER} is not the code that this sweep was started with: it has changed since, or it is "
            "another checkout; the results would be mixed"
        )


def leave_working_directory() -> None:
    """Remove the working directory, which `python -m` searches first, from `sys.path`, unless this code is there."""
    if not sys.flags.safe_path and sys.path and Path(sys.path[0] or ".").resolve() == Path.cwd() != FOLDER:
        del sys.path[0]
