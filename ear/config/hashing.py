"""Content hashes of configurations and data."""

import hashlib
import json
from typing import Any

import numpy as np

from ear.config.schema import Reach, RunConfig


def digest(value: Any) -> str:
    """SHA-256 of a JSON value in canonical form (sorted keys, shortest floats), as 64 hex digits."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def array_digest(*arrays: np.ndarray) -> str:
    """SHA-256 over dtype, shape and bytes of arrays."""
    state = hashlib.sha256()
    for array in arrays:
        state.update(f"{array.dtype.str}{array.shape}".encode())
        state.update(np.ascontiguousarray(array).tobytes())
    return state.hexdigest()


def config_hash(config: RunConfig) -> str:
    """Changes when, and only when, something changes that can change the run's result."""
    return digest([config.part(Reach.TRAINING), config.part(Reach.EVALUATION)])
