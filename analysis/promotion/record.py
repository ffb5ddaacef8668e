"""The record of a promotion, by which reports and final trainings find each other.

ROOT/SWEEP/promotions/NAME.json
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ear.config.hashing import digest
from ear.errors import UserError
from ear.files.writing import write_json
from sweeps.spec.metric import written
from sweeps.spec.naming import shown

FOLDER = "promotions"


@dataclass(frozen=True)
class Figure:
    """A mean over training seeds, and what it was measured on."""

    mean: float
    half_width: float | None  # of the 95% interval; None with one seed
    seeds: list[int]
    images: int
    evaluation_seeds: list[int]
    keys: list[str]  # of the evaluations in the store

    def words(self, metric: str) -> str:
        """Formats the mean and its interval."""
        width = f" ± {written(metric, self.half_width)}" if self.half_width is not None else ""
        return f"{written(metric, self.mean)}{width}"


@dataclass(frozen=True)
class Promotion:
    """A configuration that was promoted."""

    sweep: str
    name: str  # of the YAML, without its ending
    parameters: dict[str, Any]  # the winner's values of the axes
    metric: str
    constraints: dict[str, dict[str, float]]  # metric -> at_least, at_most
    reason: str
    chosen_by: Figure  # what it was chosen by
    again: Figure  # measured again
    again_how: str  # on what: fresh trainings, the same trainings, the search's confirmation
    checkpoints: list[str]  # keys of the winner's trainings in the sweep
    scale: str | None
    carried: list[str]  # of a scale: the settings that it has from the sweep
    kept: list[str]  # of a scale: the settings of the sweep that it has not, and why
    file: str  # the YAML
    config_hash: str

    @property
    def fact(self) -> tuple[str, str]:
        """A name and a value for the sweep's part of a page."""
        values = ", ".join(f"{name}={shown(value)}" for name, value in self.parameters.items())
        return (
            f"Promoted to {Path(self.file).name}",
            f"{values}: {self.metric} {self.chosen_by.words(self.metric)} in the sweep, "
            f"{self.again.words(self.metric)} measured again ({self.again_how})"
            + (f"; at the scale of {self.scale}" if self.scale else ""),
        )


def write_promotion(root: Path, promotion: Promotion) -> Path:
    """Writes the record; returns its path. Files of one name in two folders have a record each."""
    folder = root / promotion.sweep / FOLDER
    path = folder / f"{promotion.name}.json"
    if any(each.file != promotion.file for each in promotions(root, promotion.sweep) if each.name == promotion.name):
        path = folder / f"{promotion.name}-{digest(promotion.file)[:8]}.json"
    write_json(path, asdict(promotion))
    return path


def promotions(root: Path, sweep: str) -> list[Promotion]:
    """Returns the promotions of a sweep, by name.

    Raises:
        UserError: a record is damaged.
    """
    found = []
    for path in sorted((root / sweep / FOLDER).glob("*.json")):
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            figures = {name: Figure(**values[name]) for name in ("chosen_by", "again")}
            found.append(Promotion(**{**values, **figures}))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UserError(f"{path} is damaged ({error}): delete it, or promote the sweep again.") from error
    return found
