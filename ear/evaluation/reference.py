"""Features of the real images, computed once for a dataset and an extractor."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ear.data import Split
from ear.errors import UserError
from ear.evaluation.extractors import Extractor, Features
from ear.store import Store


def load_reference(key: str, split: Split, extractor: Extractor, store: Store) -> Features:
    """Features of the split, from the store or computed and published there under `key`."""

    def fill(folder: Path) -> None:
        real = extractor.extract(split.images)
        tensors = {"features": real.features.clone(), "logits": real.logits.clone()}
        save_file(tensors, folder / "features.safetensors")

    folder = store.get_or_create(key, "reference", fill)
    try:
        return Features(**load_file(folder / "features.safetensors"))
    except (OSError, TypeError, SafetensorError) as error:
        raise UserError(f"The features in {folder} are damaged ({error}): delete the folder.") from error
