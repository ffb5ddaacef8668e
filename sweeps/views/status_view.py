"""Prints the status of a sweep, read from its folder and the store by a process other than its drivers."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from ear.store import Store
from ear.terminal.console import terminal
from ear.terminal.units import duration
from sweeps.driver.progress_table import rows_table
from sweeps.driver.sweep_folder import DriverState, SweepFolder
from sweeps.spec.plan import Plan
from sweeps.spec.runs import result_of
from sweeps.spec.stage_tree import StageTree
from sweeps.views.run_states import ROWS_SHOWN, run_states, states_table

FAILURES_SHOWN = 20


@dataclass(frozen=True)
class Spent:
    """The time that a sweep's results took, whichever sweep or command computed them."""

    training_seconds: float
    evaluation_seconds: float
    trainings: int


def spent(tree: StageTree, store: Store) -> Spent:
    """Sums the time of the results of a tree's runs in the store."""
    training, trainings, evaluating = 0.0, 0, 0.0
    for node in tree.nodes.values():
        if node.key in store:
            seconds = store.entry(node.key).details["seconds"]  # includes the parent stages
            if node.parent is not None:
                seconds -= store.entry(node.parent).details["seconds"]
            training += seconds
            trainings += 1
    for run in tree.runs.values():
        result = result_of(run, store)
        evaluating += result.seconds if result else 0.0
    return Spent(training, evaluating, trainings)


def known_tree(plan: Plan, folder: SweepFolder) -> StageTree:
    """Returns a grid's stage tree, or that of the runs that a search has proposed so far."""
    if plan.sweep.search is None:
        return plan.asked_tree
    from sweeps.search.study_summary import studied_runs  # imports Optuna

    return StageTree(studied_runs(plan.sweep, plan.configurations, folder.path))


def known_ends(plan: Plan, folder: SweepFolder) -> dict[str, str]:
    """Returns, by evaluation key, how those runs of a search ended that have no result in the store."""
    if plan.sweep.search is None:
        return {}
    from sweeps.search.study_summary import ends_without_result

    return ends_without_result(plan.sweep, plan.configurations, folder.path)


def show_status(plan: Plan, root: Path, as_json: bool) -> None:
    """Prints a sweep's runs by state, the time spent, the running drivers and the failures.

    Raises:
        UserError: the sweep was never run here.
    """
    folder = SweepFolder(root, plan.sweep.name)
    folder.require_known()
    store = Store(root, reading=True)
    drivers = folder.running()
    tree = known_tree(plan, folder)
    # Another sweep of this name may have left its own failures.
    failures = [each for each in folder.failures() if not each.runs or any(key in tree.runs for key in each.runs)]
    ends = {**known_ends(plan, folder), **{key: "failed" for failure in failures for key in failure.runs}}
    counts: dict[str, int] = {}
    states = run_states(tree, store, ends, drivers)
    for each in states:
        counts[each.state] = counts.get(each.state, 0) + 1
    cost = spent(tree, store)
    begun = len(unfinished_stages(tree, store, ends))
    if as_json:
        values: dict[str, Any] = {
            "name": plan.sweep.name,
            "runs": counts,
            "drivers": [asdict(driver) for driver in drivers],
            "failures": [asdict(failure) for failure in failures],
            "spent": asdict(cost),
            "begun_stages": begun,
            "run_list": [
                {
                    "parameters": each.run.parameters,
                    "seed": each.run.seed,
                    "state": each.state,
                    "metrics": each.metrics,
                    "training_key": each.run.keys.training,
                    "evaluation_key": each.run.keys.evaluation,
                }
                for each in states
            ],
        }
        print(json.dumps(values, indent=2))
        return
    console = terminal()
    runs = ", ".join(f"{count} {name}" for name, count in counts.items())
    console.print(f"{plan.sweep.name}: {len(tree.runs)} runs: {runs}.")
    console.print(
        f"Its results took {duration(cost.training_seconds / 3600)} of training ({cost.trainings} stages) and "
        f"{duration(cost.evaluation_seconds / 3600)} of evaluation.",
    )
    if plan.sweep.search is not None:
        from sweeps.search.study_summary import describe

        for line in describe(plan.sweep, folder.path):
            console.print(line, soft_wrap=True)
    console.print(states_table(states, plan.sweep.objectives))
    if len(states) > ROWS_SHOWN:
        console.print(f"and {len(states) - ROWS_SHOWN} more runs: --json lists all of them.")
    if not drivers:
        console.print(f"No driver is running.{resumable(begun)}")
    for driver in drivers:
        show_driver(console, driver)
    for failure in failures[-FAILURES_SHOWN:]:
        console.print(Text("\nfailed", "red"), f"{failure.label}; its log: {failure.log}", soft_wrap=True)
        for line in failure.last_lines:
            console.print(f"    {line}")
    if len(failures) > FAILURES_SHOWN:
        console.print(f"{len(failures) - FAILURES_SHOWN} more failed: {folder.path / 'failures'}")


def unfinished_stages(tree: StageTree, store: Store, ends: Mapping[str, str]) -> set[str]:
    """Returns the keys of begun stages that a driver would resume: not those of runs that a search has stopped."""
    wanted = [run for key, run in tree.runs.items() if ends.get(key) not in ("pruned", "not begun")]
    keys = {key for run in wanted for key in run.keys.stages}
    return {key for key in keys if key not in store and store.workspace(key).is_dir()}


def resumable(stages: int) -> str:
    """Says how many unfinished stages the next driver resumes; empty for none."""
    if stages == 1:
        return " 1 unfinished stage resumes from its checkpoint."
    return f" {stages} unfinished stages resume from their checkpoints." if stages else ""


def show_driver(console: Console, driver: DriverState) -> None:
    """Prints a driver's running tasks and its summary."""
    at_work = [row for row in driver.rows if row.state in ("starting", "training", "evaluating")]
    title = f"\n{driver.host}, process {driver.pid}, since {driver.started}"
    console.print(rows_table(at_work, title))
    console.print(driver.summary)
