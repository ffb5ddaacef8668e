"""Identifies the result of a store that a checkpoint file belongs to, by the file's bytes."""

from pathlib import Path

from ear.config import RunConfig
from ear.data import Dataset
from ear.errors import UserError
from ear.files.hashes import cached_sha256
from ear.process.distributed import ALONE, Processes
from ear.store.keys import RunKeys, file_key
from ear.store.store import Store, result_file


def checkpoint_keys(
    config: RunConfig, dataset: Dataset, checkpoint: Path, store: Store, processes: Processes = ALONE
) -> RunKeys:
    """The keys under which a checkpoint file is evaluated. The training data is not needed.

    A checkpoint that this store published has the key of its training. Any other file is identified by its content, so
    that a changed or replaced file never gets the metrics of the old one. Only the main process reads the file.
    """
    key = (published_key(store, checkpoint) or file_key(checkpoint)) if processes.is_main else ""
    return RunKeys((processes.from_main(key),), config, dataset)


def published_key(store: Store, file: Path) -> str | None:
    """The key of the result of this store that contains this file with exactly these bytes.

    None if there is no such result, or if it can't be verified: older versions recorded no hashes.
    """
    place = result_file(file)
    if place is None or not place.parent.parent.samefile(store.folder):
        return None
    key = place.parent.name
    try:
        wanted = store.entry(key).files.get(place.name)
    except UserError:  # a damaged entry, or another result's
        return None
    return key if wanted is not None and cached_sha256(file) == wanted.sha256 else None
