"""Finds the misspelt parameters of a sweep, all of them at once."""

from collections.abc import Iterator, Mapping
from typing import Any

from ear.config.unknown import unknown_parameter


def unknown_parameters(values: Mapping[str, Any]) -> list[str]:
    """Returns a sentence for each dotted parameter of a sweep's YAML that no configuration has.

    It needs no valid sweep, so that they can be named together with the sweep's other faults.
    """
    return [
        f"{where}: {sentence}"
        for where, parameters in _parameters(values)
        for parameter in parameters
        if isinstance(parameter, str) and (sentence := unknown_parameter(parameter)) is not None
    ]


def _parameters(values: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    """The places of a YAML that name parameters."""
    places: list[tuple[str, Any]] = [("set", values.get("set")), ("space", values.get("space"))]
    search, bases = values.get("search"), values.get("bases")
    if isinstance(search, Mapping):
        places.append(("search: space", search.get("space")))
    if isinstance(bases, Mapping):
        places += [
            (f"bases: {name}: set", base.get("set")) for name, base in bases.items() if isinstance(base, Mapping)
        ]
    return ((where, parameters) for where, parameters in places if isinstance(parameters, Mapping))
