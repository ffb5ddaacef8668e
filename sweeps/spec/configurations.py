"""Turns points of a space into validated configurations, ten thousand per second.

A point differs from the base in a few sections, and points share most of their sections. So each section is validated
once per combination of its own parameters, and a point is assembled from validated sections.
"""

import json
import warnings
from collections.abc import Mapping
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, ValidationError, create_model

from ear.config import RunConfig, config_hash
from ear.config.hashing import digest
from ear.config.loading import Schema, read_config, set_dotted, validate
from ear.config.schema import Section
from ear.errors import UserError
from sweeps.spec.naming import plain, short_names
from sweeps.spec.runs import PlannedRun
from sweeps.spec.schema import SweepConfig


class _Part(Section):
    """The base of models that are created at run time: keeps pydantic from searching source files for docstrings."""

    model_config = ConfigDict(use_attribute_docstrings=False)


@cache
def _model_of(section: str) -> type[Section]:
    """A model with this section of a configuration alone."""
    field = RunConfig.model_fields[section]
    return create_model("Part", __base__=_Part, **{section: (field.annotation, field)})  # type: ignore[call-overload, no-any-return]


class Configurations:
    """Builds the configurations of one sweep from its base, its `set`, and the parameters of a point."""

    def __init__(self, sweep: SweepConfig, source: Path) -> None:
        """Reads and validates the base with the sweep's `set`.

        Raises:
            UserError: the base can't be read or is not valid.
        """
        self._source = source
        part = "base"
        try:
            self._values = read_config(sweep.base)
            part = "set"
            for parameter, value in sweep.set.items():
                set_dotted(self._values, parameter, value)
        except UserError as error:
            raise UserError(f"{source}: {part}: {error}") from error
        threads = max(1, sweep.resources.cpus // sweep.resources.processes)
        set_dotted(self._values, "execution.threads", threads)
        self._warned: set[str] = set()  # without their source
        self.base = self._validated(RunConfig, self._values, f"{source}: {'set' if sweep.set else 'base'}")
        self.names = short_names(sweep.search.space if sweep.search else sweep.space)
        """The short name of each parameter of the space, for labels."""
        self._sections: dict[str, Any] = {}  # a section's parameters as JSON -> the validated section

    def run(self, parameters: Mapping[str, Any], seed: int) -> PlannedRun:
        """Returns the run of a point with a seed.

        Raises:
            UserError: a parameter is unknown, of the wrong type, out of range, or incompatible with another one.
        """
        config = self.config(parameters, seed)
        # The validated values: the YAML may say 1 or "1.5" for 1.0 or 1.5.
        values = {parameter: plain(value_of(config, parameter)) for parameter in parameters}
        return PlannedRun(values, config, {name: self.names.get(name, name) for name in parameters})

    def check(self, parameters: Mapping[str, Any], place: str) -> None:
        """Validates each value by itself, even if it needs other parameters to make a valid configuration.

        Raises:
            UserError: a value is not valid.
        """
        for parameter, value in parameters.items():
            section = parameter.split(".")[0]
            values = deepcopy({section: self._values[section]} if section in self._values else {})
            self._set(values, parameter, value)
            self._validate_section(section, values, f"{self._source}: {place}")

    def value(self, parameter: str) -> Any:
        """Returns the base's value of a dotted parameter."""
        return value_of(self.base, parameter)

    def config(self, parameters: Mapping[str, Any], seed: int) -> RunConfig:
        """Returns the base with these dotted parameters and this seed."""
        by_section: dict[str, dict[str, Any]] = {}
        for parameter, value in parameters.items():
            by_section.setdefault(parameter.split(".")[0], {})[parameter] = value
        point = dict(self.base)
        for section, changes in by_section.items():
            point[section] = self._section(section, changes)
        point["seed"] = seed
        try:
            with warnings.catch_warnings(action="ignore"):  # already issued when the sections were validated
                return RunConfig.model_validate(point)  # does not validate the fields of valid sections again
        except ValidationError:
            return self._explain(parameters, seed)

    def _section(self, name: str, changes: dict[str, Any]) -> Any:
        key = json.dumps(changes)
        if key not in self._sections:
            values = deepcopy({name: self._values[name]} if name in self._values else {})
            for parameter, value in changes.items():
                self._set(values, parameter, value)
            self._sections[key] = self._validate_section(name, values, f"{self._source}: space")
        return self._sections[key]

    def _validate_section(self, name: str, values: dict[str, Any], source: str) -> Any:
        if name not in RunConfig.model_fields:  # the schema's error lists the valid names
            validate(RunConfig, {**self._values, **values}, source=source)
            raise AssertionError(name)
        return getattr(self._validated(_model_of(name), values, source), name)

    def _validated(self, schema: type[Schema], values: Mapping[str, Any], source: str) -> Schema:
        """Validates values, and passes on each warning once, although each point repeats those of the base."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            result = validate(schema, values, source)
        for message in (str(warning.message) for warning in caught):
            if (words := message.removeprefix(source)) not in self._warned:
                self._warned.add(words)
                warnings.warn(message, stacklevel=2)
        return result

    def _explain(self, parameters: Mapping[str, Any], seed: int) -> RunConfig:
        """Validates a point from its plain values, to get the error message."""
        values = deepcopy(self._values)
        for parameter, value in {**parameters, "seed": seed}.items():
            self._set(values, parameter, value)
        return validate(RunConfig, values, source=f"{self._source}: space")

    def _set(self, values: dict[str, Any], parameter: str, value: Any) -> None:
        try:
            set_dotted(values, parameter, value)
        except UserError as error:
            raise UserError(f"{self._source}: space: {error}") from error

    @property
    def digest(self) -> str:
        """A hash of everything in the base that can change a result, and of the paths of the files that it names.

        The seed is left out, since the sweep's own seeds replace it. Files count by path, not by content, because a
        search must also be readable where its files are not.
        """
        base = self.base.model_copy(update={"seed": 0})
        files = base.training.initial_checkpoint, base.evaluation.statistics, base.evaluation.extractor_weights
        return digest([config_hash(base), files])[:32]

    @property
    def earlier_digest(self) -> str:
        """The hash that studies of earlier versions have instead of `digest`: of all values as written in the YAML."""
        return digest(self._values)[:32]


def value_of(config: RunConfig, parameter: str) -> Any:
    """Returns the value of a dotted parameter; numbers index tuples, negative ones from the end."""
    found: Any = config
    for part in parameter.split("."):
        found = found[int(part)] if isinstance(found, tuple) else getattr(found, part)
    return found
