"""Configurations that earlier versions wrote to checkpoints and stores."""

from typing import Any, Literal


def resolve_auto_precision(values: dict[str, Any], precision: Literal["float32", "bfloat16"]) -> dict[str, Any]:
    """Replace `execution.precision: auto` in a resolved configuration's values by `precision`.

    `auto` meant bfloat16 on a GPU and float32 on a CPU; a checkpoint alone does not say which.
    """
    execution = values.get("execution", {})
    if execution.get("precision") != "auto":
        return values
    return {**values, "execution": {**execution, "precision": precision}}
