"""The content-addressed store of results. A result in the store is never computed again.

Importing this package does not import torch.
"""

from ear.files.lease import Lease
from ear.store.keys import RECIPE_VERSION, RunKeys, reference_keys, run_keys
from ear.store.store import Entry, Store

__all__ = ["RECIPE_VERSION", "Entry", "Lease", "RunKeys", "Store", "reference_keys", "run_keys"]
