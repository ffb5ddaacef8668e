"""What early stopping watches."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class IntermediateConfig:
    """What is measured during training, for early stopping."""

    every: int  # steps
    metric: Literal["fid", "loss"]
    images: int  # that a FID is measured on
