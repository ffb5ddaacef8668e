"""Checks and messages for weights that do not fit a model or are not finite."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ear.errors import UserError

MOST_NAMED = 10  # in one message
SUMMABLE = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True)
class WeightFaults:
    """The differences between weights and those that a model needs. It is true if there are any."""

    missing: Sequence[str]
    unexpected: Sequence[str]
    misshapen: Sequence[tuple[str, Sequence[int], Sequence[int]]]  # name, shape found, shape wanted

    @classmethod
    def between(cls, found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> "WeightFaults":
        """Compare the weights `found` with those that a model needs."""
        return cls(
            missing=[name for name in wanted if name not in found],
            unexpected=[name for name in found if name not in wanted],
            misshapen=[
                (name, found[name].shape, wanted[name].shape)
                for name in wanted
                if name in found and found[name].shape != wanted[name].shape
            ],
        )

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.misshapen)

    def __str__(self) -> str:
        """The first faults by name, and how many more there are."""
        faults = [f"missing {name}" for name in self.missing]
        faults += [f"unexpected {name}" for name in self.unexpected]
        faults += [f"{name} is {tuple(found)}, not {tuple(wanted)}" for name, found, wanted in self.misshapen]
        more = f"; and {len(faults) - MOST_NAMED} more" if len(faults) > MOST_NAMED else ""
        return "; ".join(faults[:MOST_NAMED]) + more


def require_finite(weights: Mapping[str, Tensor], source: str) -> None:
    """Check that all weights are finite. `source` names them in messages.

    Raises:
        UserError: a weight has NaN or infinite values; the message names the first ones.
    """
    faults = []
    for name, weight in weights.items():
        # If a sum is finite, so are its terms: 30 times faster than looking at each. torch can't add float8.
        if weight.dtype in SUMMABLE and math.isfinite(weight.sum().item()):
            continue
        if count := weight.numel() - int(weight.isfinite().sum()):
            faults.append(f"{name} ({count:,} of {weight.numel():,} values)")
    if faults:
        more = f" and {len(faults) - MOST_NAMED} more" if len(faults) > MOST_NAMED else ""
        raise UserError(
            f"{source} has weights that are NaN or infinite: {', '.join(faults[:MOST_NAMED])}{more}. The file is "
            "damaged, or a program saved a diverged model: restore it or use another. A checkpoint of an unfinished "
            "training can be deleted; the same command then resumes from what is left."
        )
