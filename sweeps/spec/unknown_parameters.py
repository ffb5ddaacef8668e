"""Finds the misspelt parameters of a sweep, all of them at once."""

from collections.abc import Iterator, Mapping
from typing import Any, get_origin

from pydantic import BaseModel

from ear.config.loading import INDEX, models_in, unknown_key
from ear.config.schema import RunConfig


def unknown_parameters(values: Mapping[str, Any]) -> list[str]:
    """Returns a sentence for each dotted parameter of a sweep's YAML that no configuration has.

    It needs no valid sweep, so that they can be named together with the sweep's other faults.
    """
    return [
        f"{where}: {sentence}"
        for where, parameters in _parameters(values)
        for parameter in parameters
        if isinstance(parameter, str) and (sentence := _unknown(parameter)) is not None
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


def _unknown(parameter: str) -> str | None:
    """A sentence on the first part that no section has; None if there is none, or only validation can tell."""
    sections: list[type[BaseModel]] = [RunConfig]
    parts, listed = parameter.split("."), False
    for depth, part in enumerate(parts):
        if not sections:
            return None
        if listed:
            if not INDEX.fullmatch(part):
                return None
            listed = False
            continue
        fields = [section.model_fields[part] for section in sections if part in section.model_fields]
        if not fields:
            valid = list(dict.fromkeys(name for section in sections for name in section.model_fields))
            return unknown_key(parts[: depth + 1], valid)
        listed = any(get_origin(field.annotation) in (tuple, list) for field in fields)
        sections = [model for field in fields for model in models_in(field.annotation)]
    return None
