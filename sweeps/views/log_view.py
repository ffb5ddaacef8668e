"""Prints the log of a training node of a sweep."""

import time
from dataclasses import dataclass
from pathlib import Path

from ear.errors import UserError
from ear.terminal.console import terminal
from ear.terminal.credentials import hidden
from ear.terminal.printable import printable
from sweeps.driver.sweep_folder import SweepFolder
from sweeps.spec.plan import Plan
from sweeps.spec.stage_tree import StageTree
from sweeps.views.status_view import known_tree

FOLLOW_SECONDS = 0.5  # between two looks at a log
MOST_LISTED = 20
KEY_SHOWN = 12  # digits of a key


@dataclass(frozen=True)
class Log:
    """The log of a training node's trials."""

    path: Path
    key: str
    label: str  # of the node
    runs: tuple[str, ...]  # labels of the runs that are evaluated at the node
    evaluations: tuple[str, ...]  # their keys
    failed: bool
    changed: float  # seconds since 1970

    def matches(self, which: str) -> bool:
        """Whether `which` is in a label, or begins a key."""
        words = which.split()
        labelled = any(all(word in label.split() for word in words) for label in (self.label, *self.runs))
        return labelled or any(key.startswith(which) for key in (self.key, *self.evaluations))


def existing_logs(tree: StageTree, folder: SweepFolder) -> list[Log]:
    """Returns the logs of a tree's nodes that exist: failed ones first, then the one that changed last."""
    failed = {Path(failure.log).stem for failure in folder.failures()}
    found = []
    for node in tree.nodes.values():
        path = folder.log(node.key)
        if path.is_file():
            runs, keys = tuple(run.label for run in node.evaluations.values()), tuple(node.evaluations)
            changed = path.stat().st_mtime
            found.append(Log(path, node.key, node.label, runs, keys, node.key in failed, changed))
    return sorted(found, key=lambda log: (not log.failed, -log.changed))


def chosen_log(logs: list[Log], which: str | None, sweep: str) -> Log:
    """Returns the first log, or the one that `which` names.

    Raises:
        UserError: there is none, or `which` names several.
    """
    if not logs:
        raise UserError(f"The sweep {sweep!r} has no logs here: its results come from the store, or nothing has run.")
    if which is None:
        return logs[0]
    found = [log for log in logs if log.matches(which)]
    if not found:
        raise UserError(f"No log of {sweep} is of {which!r}; there are:\n{listed(logs)}")
    if len(found) > 1:
        raise UserError(
            f"{len(found)} logs of {sweep} are of {which!r}; give more of the label, or a key:\n{listed(found)}"
        )
    return found[0]


def listed(logs: list[Log]) -> str:
    """Returns a line for each log: key, label, age."""
    lines = [f"  {log.key[:KEY_SHOWN]}  {log.label}{', failed' if log.failed else ''}" for log in logs[:MOST_LISTED]]
    more = [f"  and {len(logs) - MOST_LISTED} more"] if len(logs) > MOST_LISTED else []
    return "\n".join([*lines, *more])


def show_log(plan: Plan, root: Path, which: str | None, follow: bool) -> None:
    """Prints a log, and with `follow` whatever is added to it, until Ctrl-C.

    Raises:
        UserError: the sweep was never run here, or there is no such log, or several.
    """
    folder = SweepFolder(root, plan.sweep.name)
    folder.require_known()
    log = chosen_log(existing_logs(known_tree(plan, folder), folder), which, plan.sweep.name)
    terminal(stderr=True).print(f"{log.label}: {log.path}", soft_wrap=True)
    with log.path.open(encoding="utf-8", errors="replace") as file:
        while True:
            for line in file:
                print(printable(hidden(line.rstrip("\n"))), flush=follow)
            if not follow:
                return
            time.sleep(FOLLOW_SECONDS)
