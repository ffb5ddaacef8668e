"""Which metrics an evaluation will have, known before anything is sampled."""

import zipfile
from pathlib import Path

from ear.config.schema import EvaluationConfig

WITH_CLASSES = ("classifier", "inception-v3-compat")  # extractors that give logits as well


def unmeasured(config: EvaluationConfig) -> dict[str, str]:
    """Metrics that evaluations with these settings can't give, with the reason; those without labels (`_null`) too."""
    missing: dict[str, str] = {}
    if config.extractor not in WITH_CLASSES:
        missing["is"] = f"{config.extractor} has no classes; evaluation.extractor: {' or '.join(WITH_CLASSES)} has"
    if config.statistics is not None and not _has_images(Path(config.statistics)):
        reason = f"{config.statistics} has statistics of real images only; those of their manifold need the images"
        missing |= {"precision": reason, "recall": reason}
    return missing | {f"{name}_null": reason for name, reason in missing.items()}


def _has_images(statistics: Path) -> bool:
    """Whether such an npz file holds `arr_0`; a file that can't be read is refused by whoever reads it."""
    try:
        with zipfile.ZipFile(statistics) as archive:
            return "arr_0.npy" in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return True
