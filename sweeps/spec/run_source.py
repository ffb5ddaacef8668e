"""The source of a sweep's runs: a grid knows all of them at once, a search proposes them one after another."""

from collections.abc import Sequence
from typing import Protocol

from sweeps.spec.runs import PlannedRun, RunResult


class RunSource(Protocol):
    """Supplies the scheduler with runs and learns how they end. Only the driver's main thread calls it."""

    def start(self) -> Sequence[PlannedRun]:
        """Returns the runs that are known from the start."""
        ...

    def propose(self) -> Sequence[PlannedRun]:
        """Returns more runs, or none for now; called when a slot is free and nothing is ready."""
        ...

    def report(self, run: PlannedRun, step: int, value: float) -> bool:
        """Records an intermediate value after `step` training steps; returns whether the run must stop."""
        ...

    def settle(self, run: PlannedRun, result: RunResult) -> Sequence[PlannedRun]:
        """Records how a run ended and returns the runs that follow; may be called again for the same run."""
        ...

    def known_end(self, run: PlannedRun) -> RunResult | None:
        """Returns how a run without a result in the store ended, on whichever driver: stopped early or failed."""
        ...

    def tags(self, run: PlannedRun) -> dict[str, str]:
        """Returns the run's additional MLflow tags."""
        ...

    def progress_note(self) -> str:
        """Returns a few words on progress to show beside the run counts."""
        ...

    def require_sound(self) -> None:
        """Checks that no damaged result has influenced the runs.

        Raises:
            UserError: one has, so that later runs are of no use.
        """
        ...

    def close(self) -> None:
        """Gives back unfinished work when the driver ends."""
        ...


class Grid:
    """The `RunSource` of a grid: all combinations, known from the start."""

    def __init__(self, runs: Sequence[PlannedRun]) -> None:
        self._runs = runs

    def start(self) -> Sequence[PlannedRun]:
        return self._runs

    def propose(self) -> Sequence[PlannedRun]:
        return ()

    def report(self, run: PlannedRun, step: int, value: float) -> bool:
        return False

    def settle(self, run: PlannedRun, result: RunResult) -> Sequence[PlannedRun]:
        return ()

    def known_end(self, run: PlannedRun) -> RunResult | None:
        return None  # every driver tries failed runs itself

    def tags(self, run: PlannedRun) -> dict[str, str]:
        return {}

    def progress_note(self) -> str:
        return ""

    def require_sound(self) -> None:
        pass

    def close(self) -> None:
        pass
