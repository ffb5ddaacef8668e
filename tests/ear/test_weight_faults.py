"""Weights that are not finite, and large ones that only seem so."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from ear.errors import UserError
from ear.weights.faults import require_finite


@pytest.mark.parametrize(
    ("values", "count"),
    [([1.0, math.nan], 1), ([math.inf, -math.inf, 0.0], 2), ([[-math.inf], [1.0]], 1), ([complex(math.nan, 0)], 1)],
)
def test_each_value_that_is_not_finite_is_counted(values: list[Any], count: int) -> None:
    weight = torch.tensor(values)
    with pytest.raises(UserError, match=rf"head\.weight \({count} of {weight.numel()} values\)\. The file"):
        require_finite({"fine": torch.ones(3), "head.weight": weight}, "The file")


@pytest.mark.parametrize(
    "weight",
    [
        torch.full((4,), torch.finfo(torch.float32).max),  # their sum is infinite
        torch.full((4,), torch.finfo(torch.float16).max, dtype=torch.float16),
        torch.ones(2).to(torch.float8_e4m3fn),  # torch has no sum of these
        torch.ones(2, dtype=torch.complex64),
        torch.tensor([2**62, 2**62]),
        torch.tensor([True, False]),
        torch.empty(0),
    ],
    ids=["float32", "float16", "float8", "complex64", "int64", "bool", "empty"],
)
def test_finite_weights_pass_however_large(weight: Tensor) -> None:
    require_finite({"weight": weight}, "it")
