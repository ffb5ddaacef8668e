"""The kinds of numbers that a configuration has, and the bounds of each.

Where nothing else bounds a number, these do: far above what is used, and below what overflows or brings a machine down.
"""

from numbers import Integral
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, Strict, ValidationInfo

from ear.config.yaml_text import LARGEST

RECORDED = "recorded"  # in a validation's context: these values were computed with, perhaps before there was a bound
MOST_EPOCHS = 1_000_000  # the steps of more leave the range of whole numbers


def _refuse_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("a number is needed, not a boolean")
    return value


def _whole(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, float):
        raise ValueError("a whole number is needed, written without a point or an exponent")
    _refuse_bool(value)
    if not isinstance(value, Integral):
        return value
    whole = int(value)  # NumPy's, too
    if abs(whole) > LARGEST and not (info.context or {}).get(RECORDED):
        raise ValueError(f"a whole number has 64 bits: it is at most {LARGEST:,}")
    return whole


def _refuse_words(value: Any) -> Any:
    if not isinstance(value, bool):
        raise ValueError("write true or false")
    return value


# Strict, or Pydantic reads true as 1, "yes" as true and "1.5" as 1.5: two values of an axis could be one.
Number = Annotated[float, Strict(), BeforeValidator(_refuse_bool), Field(allow_inf_nan=False)]
Whole = Annotated[int, Strict(), BeforeValidator(_whole)]
# Of anything: images, steps, sides. A size that 32 bits don't hold can't be meant.
Count = Annotated[Whole, Field(gt=0, le=2**31 - 1)]
Blocks = Annotated[Count, Field(le=1000)]
"""Of a network, each built one after another; the deepest transformers have a thousand."""
Parallel = Annotated[Whole, Field(ge=0, le=1024)]
"""Threads or processes on one machine: more of them bring it down before anything is said."""
NonNegative = Annotated[Whole, Field(ge=0)]
Flag = Annotated[bool, Strict(), BeforeValidator(_refuse_words)]
Probability = Annotated[Number, Field(ge=0, le=1)]
