"""The training curve: one record every `log_every` steps."""

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class TrainingRecord:
    step: int  # steps done
    loss: float  # mean over the steps since the last record
    gradient_norm: float  # likewise, before clipping
    learning_rate: float  # of the trunk at the last of these steps
    seconds: float  # of training since the run's beginning, interruptions left out


def to_tensors(records: list[TrainingRecord]) -> "dict[str, Tensor]":
    """Records as float64 columns, to be kept in a checkpoint."""
    import torch

    columns = [field.name for field in fields(TrainingRecord)]
    rows = [asdict(record) for record in records]
    return {name: torch.tensor([row[name] for row in rows], dtype=torch.float64) for name in columns}


def from_tensors(columns: "dict[str, Tensor]") -> list[TrainingRecord]:
    """The inverse of `to_tensors`."""
    rows = zip(*(columns[field.name].tolist() for field in fields(TrainingRecord)), strict=True)
    return [TrainingRecord(int(step), *values) for step, *values in rows]
