"""The training curve: one record every `log_every` steps."""

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class TrainingRecord:
    """One point of the training curve."""

    step: int  # steps done
    loss: float  # mean over the steps since the previous record
    gradient_norm: float  # before clipping, mean over the same steps
    learning_rate: float  # of the trunk at the last step
    seconds: float  # of training since the run began, without interruptions


def to_tensors(records: list[TrainingRecord]) -> "dict[str, Tensor]":
    """Convert records to float64 columns, for a checkpoint."""
    import torch

    columns = [field.name for field in fields(TrainingRecord)]
    rows = [asdict(record) for record in records]
    return {name: torch.tensor([row[name] for row in rows], dtype=torch.float64) for name in columns}


def from_tensors(columns: "dict[str, Tensor]") -> list[TrainingRecord]:
    """Convert columns from `to_tensors` back to records."""
    rows = zip(*(columns[field.name].tolist() for field in fields(TrainingRecord)), strict=True)
    return [TrainingRecord(int(step), *values) for step, *values in rows]
