"""Configurations as earlier versions wrote them into checkpoints and stores."""

from typing import Any, Literal


def resolve_auto_precision(values: dict[str, Any], precision: Literal["float32", "bfloat16"]) -> dict[str, Any]:
    """A resolved configuration's values, with this precision where `execution.precision` is `auto`.

    `auto` was bfloat16 on a GPU and float32 on a CPU; a checkpoint alone does not tell which of them it was.
    """
    execution = values.get("execution", {})
    if execution.get("precision") != "auto":
        return values
    return {**values, "execution": {**execution, "precision": precision}}
