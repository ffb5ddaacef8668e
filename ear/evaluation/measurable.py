"""Which metrics an evaluation can measure, known before sampling."""

import zipfile
from pathlib import Path

from ear.config.schema import EvaluationConfig

WITH_CLASSES = ("classifier", "inception-v3-compat")  # extractors with logits


def unmeasured(config: EvaluationConfig) -> dict[str, str]:
    """The metrics that evaluations with these settings can't measure, with the reason; also those with `_null`."""
    missing: dict[str, str] = {}
    if config.extractor not in WITH_CLASSES:
        missing["is"] = f"{config.extractor} has no classes; set evaluation.extractor to {' or '.join(WITH_CLASSES)}"
    if config.statistics is not None and not _has_images(Path(config.statistics)):
        reason = f"{config.statistics} has only statistics of real images, but this metric needs the images"
        missing |= {"precision": reason, "recall": reason}
    return missing | {f"{name}_null": reason for name, reason in missing.items()}


def _has_images(statistics: Path) -> bool:
    """Whether an npz file contains `arr_0`; True if it can't be read, since reading it later gives the error."""
    try:
        with zipfile.ZipFile(statistics) as archive:
            return "arr_0.npy" in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return True
