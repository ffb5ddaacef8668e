"""Training: the loop, its parts, and the callbacks around it."""

from ear.training.callbacks import Callback, PeriodicCheckpoint
from ear.training.history import TrainingRecord
from ear.training.trainer import Trainer

__all__ = ["Callback", "PeriodicCheckpoint", "Trainer", "TrainingRecord"]
