"""The state and the metrics of each run of a sweep, as another process sees them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from ear.store import Store
from sweeps.driver.progress_table import STYLES
from sweeps.driver.sweep_folder import DriverState
from sweeps.spec.metric import written
from sweeps.spec.runs import PlannedRun, result_of
from sweeps.spec.stage_tree import StageTree

ROWS_SHOWN = 40
SHOWN = ("fid", "is", "precision", "recall")  # metrics beside the objectives


@dataclass(frozen=True)
class RunState:
    """One run, how far it is, and what it measured."""

    run: PlannedRun
    state: str  # evaluated, diverged, pruned, failed, not begun, training, evaluating, trained, to do
    metrics: Mapping[str, float]  # of an evaluated run


def run_states(
    tree: StageTree, store: Store, ends: Mapping[str, str], drivers: Iterable[DriverState]
) -> list[RunState]:
    """Returns the state of each run of a tree.

    Args:
        ends: by evaluation key, how runs without a result ended.
        drivers: those that run, whose tasks are at work.
    """
    at_work = running(tree, drivers)
    found = []
    for key, run in tree.runs.items():
        result = result_of(run, store)
        if result is not None:
            found.append(RunState(run, result.state, result.metrics))
            continue
        otherwise = "trained" if run.keys.training in store else "to do"
        found.append(RunState(run, at_work.get(key) or ends.get(key) or otherwise, {}))
    return found


def running(tree: StageTree, drivers: Iterable[DriverState]) -> dict[str, str]:
    """Returns, by evaluation key, what drivers do at present for a run: training or evaluating."""
    rows = {row.label: row.state for driver in drivers for row in driver.rows}
    found: dict[str, str] = {}
    for node in tree.nodes.values():
        state = rows.get(node.label)
        if state in ("starting", "training", "retrying"):
            found |= dict.fromkeys((run.keys.evaluation for run in tree.runs_below(node.key)), "training")
        elif state == "evaluating":
            found |= dict.fromkeys(node.evaluations, "evaluating")
    first = {label.partition(" (+")[0] for label, state in rows.items() if state in ("starting", "evaluating")}
    return found | {key: "evaluating" for key, run in tree.runs.items() if run.label in first}


def states_table(states: Sequence[RunState], objectives: Sequence[str]) -> Table:
    """Returns a table of runs with their state and metrics, the objectives first; at most `ROWS_SHOWN` runs."""
    measured = {name for each in states for name in each.metrics if name in SHOWN}
    columns = [*objectives, *(name for name in SHOWN if name in measured and name not in objectives)]
    table = Table(box=None, pad_edge=False)
    table.add_column("run")
    table.add_column("state", no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for each in states[:ROWS_SHOWN]:
        values = [written(name, each.metrics[name]) if name in each.metrics else "" for name in columns]
        style = {"evaluated": "green", **STYLES}.get(each.state, "dim")
        table.add_row(Text(each.run.label), Text(each.state, style), *values)
    return table
