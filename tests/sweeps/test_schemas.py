"""Every schema reads values as they are written."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel, ValidationError

from ear.config import RunConfig
from ear.config.schema import GeneratorConfig, StageConfig
from slurm.profile import Profile
from sweeps.spec.schema import SweepConfig


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


def test_numbers_of_numpy_are_numbers() -> None:
    config = GeneratorConfig(width=np.int64(8), depth=np.uint8(2), noise_channels=4)
    assert config.model_dump_json() == '{"width":8,"depth":2,"noise_channels":4}'
    assert type(StageConfig(steps=1, learning_rate=np.float32(0.5)).learning_rate) is float
    with pytest.raises(ValidationError, match="depth"):
        GeneratorConfig(width=8, depth=np.bool_(True), noise_channels=4)
