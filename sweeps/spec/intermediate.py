"""The intermediate values that early stopping uses."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class IntermediateConfig:
    """What a trial measures during training for early stopping."""

    every: int  # steps between two measurements
    metric: Literal["fid", "loss"]
    images: int  # generated images per FID
