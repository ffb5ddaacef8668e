"""When two trainings count as the same."""

import torch
from torch import Tensor


def assert_close(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    """Up to rounding. Attention does not depend on its keys' bias: there Adam makes whole steps of rounding errors."""
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        expected = theirs[name].clone()
        if name.endswith("qkv.bias"):
            of_keys = slice(len(value) // 3, 2 * len(value) // 3)
            expected[of_keys] = value[of_keys]
        torch.testing.assert_close(value, expected, rtol=1e-3, atol=2e-4, msg=lambda text, name=name: f"{name}: {text}")
