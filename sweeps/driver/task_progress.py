"""How far a sweep and each of its tasks have come."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from sweeps.spec.metric import better

State = Literal[
    "starting", "training", "evaluating", "finished", "stopped", "stopped early", "diverged", "retrying", "failed"
]
OVER: tuple[State, ...] = ("finished", "stopped", "stopped early", "diverged", "retrying", "failed")


@dataclass
class Row:
    """One task that is running or has run."""

    label: str
    total_steps: int
    state: State = "starting"
    steps: int = 0
    loss: float | None = None
    first_steps: int | None = None  # steps at the first report
    first_time: float = 0.0  # time of the first report
    last_time: float = 0.0  # time of the last report
    metrics: dict[str, float] = field(default_factory=dict)  # the best value of each objective so far
    evaluated: int = 0  # its runs that have metrics

    def add(self, metrics: Mapping[str, float], objectives: Sequence[str]) -> None:
        """Adds a run's metrics, and keeps the best value of each objective."""
        self.evaluated += 1
        for name in objectives:
            if name in metrics:
                best = min if better(name) == "min" else max
                self.metrics[name] = best(metrics[name], self.metrics.get(name, metrics[name]))

    @property
    def pace(self) -> float | None:
        """Seconds per step since the first report; None until a step has been timed."""
        if self.first_steps is None or self.steps <= self.first_steps:
            return None
        return (self.last_time - self.first_time) / (self.steps - self.first_steps)

    def eta(self) -> float | None:
        """Seconds of training left at the current pace; None if unknown."""
        return None if self.pace is None or self.state != "training" else self.pace * (self.total_steps - self.steps)


@dataclass(frozen=True)
class Counts:
    """The progress of a whole sweep."""

    done: int  # runs that have a result
    known: int  # runs known so far; a search proposes more
    steps: int  # training steps left in the known runs
    evaluations: int  # evaluations left in the known runs
    more: str = ""  # a further note, such as a search's best value
