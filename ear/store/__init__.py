"""The content-addressed store: what is in it is never computed again. Importing it imports no torch."""

from ear.files.lease import Lease
from ear.store.keys import RECIPE_VERSION, RunKeys, reference_keys, run_keys
from ear.store.store import Entry, Store

__all__ = ["RECIPE_VERSION", "Entry", "Lease", "RunKeys", "Store", "reference_keys", "run_keys"]
