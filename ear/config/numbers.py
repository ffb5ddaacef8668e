"""The number types of the schema and their bounds.

Where a field has no tighter bound, these apply: far above what is used, and below what overflows or exhausts a machine.
"""

from numbers import Integral
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, Strict, ValidationInfo

from ear.config.yaml_text import LARGEST

RECORDED = "recorded"  # in a validation's context: the values are of an existing result, perhaps older than the bounds
MOST_EPOCHS = 1_000_000  # the steps of more epochs could overflow an integer


def _refuse_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("a number is needed, not a boolean")
    return value


def _whole(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, float):
        raise ValueError("an integer is needed, written without a decimal point or an exponent")
    _refuse_bool(value)
    if not isinstance(value, Integral):
        return value
    whole = int(value)  # NumPy's, too
    if abs(whole) > LARGEST and not (info.context or {}).get(RECORDED):
        raise ValueError(f"integers have 64 bits and are at most {LARGEST:,}")
    return whole


def _refuse_words(value: Any) -> Any:
    if not isinstance(value, bool):
        raise ValueError("write true or false")
    return value


# Strict: otherwise Pydantic reads true as 1, "yes" as true and "1.5" as 1.5, and two values of an axis could be equal.
Number = Annotated[float, Strict(), BeforeValidator(_refuse_bool), Field(allow_inf_nan=False)]
Whole = Annotated[int, Strict(), BeforeValidator(_whole)]
# A number of images, steps or pixels. More than 32 bits is certainly a mistake.
Count = Annotated[Whole, Field(gt=0, le=2**31 - 1)]
Blocks = Annotated[Count, Field(le=1000)]
"""Blocks of a network, which are built one by one; the deepest transformers have a thousand."""
Parallel = Annotated[Whole, Field(ge=0, le=1024)]
"""Threads or processes on one machine: more would exhaust it before any message could be printed."""
NonNegative = Annotated[Whole, Field(ge=0)]
Flag = Annotated[bool, Strict(), BeforeValidator(_refuse_words)]
Probability = Annotated[Number, Field(ge=0, le=1)]
