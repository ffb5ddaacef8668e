"""Changes a sweep's settings for one call: `--set training.batch_size=64`."""

import re
from collections.abc import Sequence
from typing import Any

from ear.config.hashing import digest
from ear.config.loading import parse_override
from sweeps.spec.naming import short_names, shown
from sweeps.spec.schema import SweepConfig

MOST_NAME = 64  # characters of a sweep's name


def with_settings(sweep: SweepConfig, settings: Sequence[str]) -> SweepConfig:
    """Returns the sweep with `parameter=value` settings added to its `set`, renamed to NAME-PARAMETER-VALUE.

    It has other runs, so it is another sweep. The name keeps its folder, study and MLflow runs apart from those of the
    sweep in the YAML, as `--base` does. What only says how a run executes (`execution.*`) leaves the name as it is.

    Raises:
        UserError: a setting does not have that form.
    """
    given: dict[str, Any] = dict(parse_override(setting) for setting in settings)
    changing = {name: value for name, value in sorted(given.items()) if name.split(".")[0] != "execution"}
    names = short_names(changing)
    ending = "".join(f"-{name}-{shown(changing[parameter])}" for parameter, name in names.items())
    name = sweep.name + re.sub(r"[^A-Za-z0-9_.]+", "-", ending).rstrip("-")
    if len(name) > MOST_NAME:
        name = f"{sweep.name[: MOST_NAME - 9]}-{digest(changing)[:8]}"
    return sweep.model_copy(update={"name": name, "set": {**sweep.set, **given}})
