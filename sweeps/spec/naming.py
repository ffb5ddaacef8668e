"""Names of sweeps, parameters and values as people read them: in tables, figures, labels and file names."""

from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any, get_args

from pydantic import BaseModel

from ear.terminal.printable import printable
from sweeps.spec.metric import MetricName

# Names that labels and tables use beside the parameters' names. An axis `execution.precision` must not be mistaken
# for the metric.
TAKEN = frozenset((*get_args(MetricName), "seed", "trial"))

MOST_DIGITS = 12  # characters of a number that somebody typed; drawn numbers are longer

# ROOT/NAME is a sweep's folder. EAR and MLflow create these folders beside it, and MLflow has an experiment Default.
RESERVED_NAMES = frozenset(("store", "slurm", "paper", "mlartifacts", "mlruns", "default"))
DATABASE = "mlflow.db"  # prefix of sqlite's and the lock's files: mlflow.db-wal, mlflow.db.lock


def is_reserved(name: str) -> bool:
    """Whether a sweep can't have this name. Ignores case, as some file systems and databases do."""
    return name.casefold() in RESERVED_NAMES or name.casefold().startswith(DATABASE)


def short_names(parameters: Iterable[str]) -> dict[str, str]:
    """Maps each dotted parameter to its shortest unambiguous ending.

    model.width and scoring.generator.width become `model.width` and `generator.width`. A name never starts with an
    index: two stages' temperatures become `stages.0.train_temperature` and `stages.1.train_temperature`.
    """
    parts = {parameter: parameter.split(".") for parameter in parameters}
    lengths = {parameter: _longer(names, 0) for parameter, names in parts.items()}
    while True:
        found = {parameter: ".".join(names[-lengths[parameter] :]) for parameter, names in parts.items()}
        names = list(found.values())
        alike = [
            parameter
            for parameter, name in found.items()
            if (name in TAKEN or names.count(name) > 1) and lengths[parameter] < len(parts[parameter])
        ]
        if not alike:
            return found
        for parameter in alike:
            lengths[parameter] = _longer(parts[parameter], lengths[parameter])


def _longer(names: list[str], length: int) -> int:
    """The next length of an ending that does not start with a number."""
    length += 1
    while length < len(names) and names[-length].lstrip("-").isdigit():
        length += 1
    return length


def plain(value: Any) -> Any:
    """Returns a validated value as JSON; of a section, only the fields that were given."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_unset=True)
    if isinstance(value, tuple | list):
        return [plain(each) for each in value]
    return str(value) if isinstance(value, PurePath) else value


def shown(value: Any) -> str:
    """Formats a parameter's value for people: `0.25`, `none`, `[0.9, 0.95]`, `{width: 32, depth: 2}`.

    Long numbers, as a search draws them, are rounded to four digits. Text is made safe to print on a terminal.
    """
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.4g}" if len(str(value)) > MOST_DIGITS else str(value)
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{name}: {shown(each)}' for name, each in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(shown, value))}]"
    return printable(str(value))
