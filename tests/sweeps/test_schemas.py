"""Every schema reads values as they are written."""

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from ear.config import RunConfig
from slurm.profile import Profile
from sweeps.schema import SweepConfig


def lax(schema: Any, path: str = "") -> Iterator[str]:
    """Places in Pydantic's core schema that read true as 1, or text as a number."""
    if isinstance(schema, dict):
        if schema.get("type") in ("int", "float", "bool") and not schema.get("strict"):
            yield path
        for name, inner in schema.items():
            if name not in ("metadata", "serialization"):
                yield from lax(inner, f"{path}.{name}")
    elif isinstance(schema, list | tuple):
        for number, inner in enumerate(schema):
            yield from lax(inner, f"{path}.{number}")


@pytest.mark.parametrize("schema", [RunConfig, SweepConfig, Profile])
def test_no_number_is_read_from_text_or_a_boolean(schema: type[BaseModel]) -> None:
    assert list(lax(schema.__pydantic_core_schema__)) == []
