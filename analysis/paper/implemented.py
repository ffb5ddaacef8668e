"""Whether the code can do what a claim needs: asked of the schema of configurations."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from ear.config import RunConfig
from ear.config.loading import models_in


def is_implemented(needs: Mapping[str, Any], schema: type[BaseModel] = RunConfig) -> bool:
    """Whether the schema accepts each of these dotted parameters with its value."""
    return all(accepts(schema, parameter.split("."), value) for parameter, value in needs.items())


def accepts(schema: type[BaseModel], path: list[str], value: Any) -> bool:
    """Whether a section, or one of the alternatives inside it, has a field at `path` that accepts `value`."""
    field = schema.model_fields.get(path[0])
    if field is None:
        return False
    if len(path) > 1:
        return any(accepts(inner, path[1:], value) for inner in models_in(field.annotation))
    try:
        # With its metadata, which has the bounds.
        TypeAdapter(field.rebuild_annotation()).validate_python(value, strict=True)
    except ValidationError:
        return False
    return True
