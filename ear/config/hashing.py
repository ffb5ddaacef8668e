"""Content hashes of configurations and data."""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ear.config.hashed import EVALUATED, TRAINED, hashed_values
from ear.config.schema import RunConfig
from ear.errors import UserError
from ear.files.hashes import cached_sha256

if TYPE_CHECKING:
    import numpy as np


def digest(value: Any) -> str:
    """SHA-256 of a JSON value in canonical form (sorted keys, shortest floats), as 64 hex digits."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def array_digest(*arrays: "np.ndarray") -> str:
    """SHA-256 of the dtypes, shapes and bytes of arrays, as 64 hex digits."""
    import numpy as np

    state = hashlib.sha256()
    for array in arrays:
        state.update(f"{array.dtype.str}{array.shape}".encode())
        state.update(np.ascontiguousarray(array).tobytes())
    return state.hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content, or of the files in a folder. A process reads an unchanged file only once.

    Raises:
        UserError: a file does not exist or can't be read.
    """
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    try:
        return digest([cached_sha256(file) for file in files])
    except OSError as error:
        raise UserError(f"{path} can't be read ({error.strerror}): check the path.") from error


def config_hash(config: RunConfig) -> str:
    """Hash of all values that can change the result. The files that the configuration names are not read."""
    return digest([hashed_values(config, TRAINED), hashed_values(config, EVALUATED)])
