"""A KL-16 checkpoint with weights from a rule, as the golden values were made with (tests/reference/README.md)."""

import json
import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

SHAPES = Path(__file__).parents[1] / "reference" / "kl16_state_dict_shapes.json"


def rule_filled_weights(shapes: dict[str, list[int]]) -> dict[str, Tensor]:
    """w = sin(arange(n) (0.37 + 0.001 i) + i) by name, scaled by what a weight is for; float32."""
    weights = {}
    for index, name in enumerate(sorted(shapes)):
        shape = shapes[name]
        wave = np.sin(np.arange(math.prod(shape), dtype=np.float64) * (0.37 + 0.001 * index) + index).reshape(shape)
        if len(shape) == 4:
            wave *= math.sqrt(2 / math.prod(shape[1:]))
        else:
            wave = 1 + 0.1 * wave if name.endswith(".weight") else 0.1 * wave
        weights[name] = torch.from_numpy(wave.astype(np.float32))
    return weights


def write_rule_filled_kl16(path: Path) -> None:
    """An LDM-layout checkpoint of KL-16, 266 MB."""
    torch.save({"model": rule_filled_weights(json.loads(SHAPES.read_text()))}, path)
