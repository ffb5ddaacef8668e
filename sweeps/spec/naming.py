"""What sweeps, parameters and values are called wherever people read them: tables, figures, labels, file names."""

from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any, get_args

from pydantic import BaseModel

from ear.terminal.printable import printable
from sweeps.spec.metric import MetricName

# What labels and tables have beside the parameters. An axis `execution.precision` is not to be taken for the metric.
TAKEN = frozenset((*get_args(MetricName), "seed", "trial"))

MOST_DIGITS = 12  # of a number that somebody typed; drawn ones have more

# ROOT/NAME is a sweep's folder. Beside it the program puts these, MLflow its runs where nothing else is said; and
# MLflow has an experiment called Default.
PROGRAMS_OWN = frozenset(("store", "slurm", "mlartifacts", "mlruns", "default"))
DATABASE = "mlflow.db"  # to whose name sqlite and locks add: mlflow.db-wal, mlflow.db.lock


def is_reserved(name: str) -> bool:
    """Whether a sweep can't have this name. Some file systems and databases take upper and lower case for one."""
    return name.casefold() in PROGRAMS_OWN or name.casefold().startswith(DATABASE)


def short_names(parameters: Iterable[str]) -> dict[str, str]:
    """Dotted parameter -> its last name, with as many of those before it as tell it from the others.

    model.width and scoring.generator.width become `model.width` and `generator.width`. A number is no name by itself:
    of two stages' temperatures, `stages.0.train_temperature`.
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
    """The next length of an ending of these names that does not begin with a number."""
    length += 1
    while length < len(names) and names[-length].lstrip("-").isdigit():
        length += 1
    return length


def plain(value: Any) -> Any:
    """A validated value as JSON has it; of a section what was given, without its defaults."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_unset=True)
    if isinstance(value, tuple | list):
        return [plain(each) for each in value]
    return str(value) if isinstance(value, PurePath) else value


def shown(value: Any) -> str:
    """A parameter's value, for people: `0.25`, `none`, `[0.9, 0.95]`, `{width: 32, depth: 2}`.

    A number that was drawn has more digits than anybody reads; words are as a terminal may print them.
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
