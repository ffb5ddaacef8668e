"""Finds misspelt parameters by the schema alone, before anything is read or imported that they would be applied to."""

from collections.abc import Sequence
from typing import get_origin

from pydantic import BaseModel

from ear.config.loading import INDEX, models_in, parse_override, unknown_key
from ear.config.schema import RunConfig
from ear.errors import UserError


def require_known(overrides: Sequence[str]) -> None:
    """Check that `a.b=value` overrides are of parameters that exist.

    Raises:
        UserError: an override does not have that form, or no configuration has its parameter; one line for each.
    """
    found = [unknown_parameter(parse_override(override)[0]) for override in overrides]
    if unknown := [f"--set: {sentence}" for sentence in found if sentence is not None]:
        raise UserError("\n".join(unknown))


def unknown_parameter(parameter: str) -> str | None:
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
