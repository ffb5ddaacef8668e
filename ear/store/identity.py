"""Which result of a store a checkpoint file is, as its bytes tell; what lies beside it is only where to look."""

from pathlib import Path

from ear.config import RunConfig
from ear.config.hashing import sha256
from ear.data import Dataset
from ear.errors import UserError
from ear.process.distributed import ALONE, Processes
from ear.store.keys import RunKeys, file_key
from ear.store.store import Store, result_file


def checkpoint_keys(
    config: RunConfig, dataset: Dataset, checkpoint: Path, store: Store, processes: Processes = ALONE
) -> RunKeys:
    """The keys under which a checkpoint file is evaluated; training data is not needed.

    A training that this store published counts as that; any other file as its content, so that a changed file, or
    another one in its place, never meets the old one's metrics. Of several processes the main one reads the file.
    """
    key = (published_key(store, checkpoint) or file_key(checkpoint)) if processes.is_main else ""
    return RunKeys((processes.from_main(key),), config, dataset)


def published_key(store: Store, file: Path) -> str | None:
    """The key of this store's result that holds exactly these bytes in this file; None where it is none, or can't be
    told: of what older versions published, no hashes are known."""
    place = result_file(file)
    if place is None or not place.parent.parent.samefile(store.folder):
        return None
    key = place.parent.name
    try:
        wanted = store.entry(key).files.get(place.name)
    except UserError:  # a damaged entry, or another result's
        return None
    return key if wanted is not None and sha256(file) == wanted.sha256 else None
