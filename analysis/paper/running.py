"""Runs the suite: one sweep after another, in this process."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sweeps.driver.run_sweep import run_sweep
from sweeps.spec.plan import Plan


@dataclass
class SuiteOutcome:
    """What one call of `run_suite` achieved, over all sweeps."""

    done: int = 0  # runs that got their result in this call
    reused: int = 0  # runs whose result already existed
    left: int = 0  # unfinished runs that other drivers work on
    failed: dict[str, str] = field(default_factory=dict)  # sweep and run -> its traceback
    stopped: str | None = None  # why the suite stopped early; None if it did not


def run_suite(plans: Sequence[Plan], root: Path, say: Callable[[str], object]) -> SuiteOutcome:
    """Trains and evaluates what the store lacks, sweep by sweep; stops where a sweep was stopped.

    A sweep whose runs fail does not keep the others from running.

    Raises:
        UserError: as `run_sweep`.
    """
    total = SuiteOutcome()
    for number, plan in enumerate(plans, start=1):
        say(f"Sweep {number} of {len(plans)}: {plan.sweep.name}, {len(plan.runs)} runs")
        outcome = run_sweep(plan, root)
        total.done += outcome.done
        total.reused += outcome.reused
        total.left += outcome.left
        total.failed |= {f"{plan.sweep.name} {label}": traceback for label, traceback in outcome.failed.items()}
        if outcome.stopped is not None:
            total.stopped = outcome.stopped
            break
    return total
