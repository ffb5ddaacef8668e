"""Where a sweep's runs come from: a grid knows all of them at once, a search proposes them one after another."""

from collections.abc import Sequence
from typing import Protocol

from sweeps.spec.runs import PlannedRun, RunResult


class RunSource(Protocol):
    """Called by the driver alone, in one thread."""

    def start(self) -> Sequence[PlannedRun]:
        """The runs that are known before anything is done."""
        ...

    def propose(self) -> Sequence[PlannedRun]:
        """Asked whenever a place is free and nothing is ready: more runs, or none for now."""
        ...

    def report(self, run: PlannedRun, step: int, value: float) -> bool:
        """Takes in an intermediate value after `step` steps of training; says whether the run is to be stopped."""
        ...

    def settle(self, run: PlannedRun, result: RunResult) -> Sequence[PlannedRun]:
        """Takes in how a run ended, any number of times; returns the runs that follow from it."""
        ...

    def known_end(self, run: PlannedRun) -> RunResult | None:
        """How a run ended for another driver, where that left nothing in the store: stopped early, or failed."""
        ...

    def tags(self, run: PlannedRun) -> dict[str, str]:
        """What a run's record is to say beside its parameters."""
        ...

    def progress_note(self) -> str:
        """Where it stands, in a few words beside the counts of runs."""
        ...

    def require_sound(self) -> None:
        """
        Raises:
            UserError: what was done since is of no use, since it followed from damaged results.
        """
        ...

    def close(self) -> None:
        """The driver ends, with or without runs that have not."""
        ...


class Grid:
    """All combinations, each once."""

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
        return None  # what failed is tried by each driver

    def tags(self, run: PlannedRun) -> dict[str, str]:
        return {}

    def progress_note(self) -> str:
        return ""

    def require_sound(self) -> None:
        pass

    def close(self) -> None:
        pass
