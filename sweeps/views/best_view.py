"""Says which configuration of a grid is the best so far, and the commands that go on from it."""

from pathlib import Path

from ear.cli.options import DEFAULT_ROOT
from ear.store import Store
from ear.terminal.console import terminal
from sweeps.spec.plan import Plan
from sweeps.spec.ranking import best_lines, ranking

KEY_SHOWN = 12  # digits of a key


def show_best(plan: Plan, root: Path) -> None:
    """Prints the best configuration of a grid and how to draw samples from it."""
    store, console = Store(root, reading=True), terminal()
    if plan.is_partial:
        console.print(f"--only asked for {len(plan.asked)} of the grid's {len(plan.runs)} runs.")
    ranked, unranked = ranking(plan, store)
    for line in best_lines(ranked, unranked, plan.sweep.objective):
        console.print(line, soft_wrap=True)
    if ranked:
        at_root = "" if root == DEFAULT_ROOT else f" --root {root}"
        key = ranked[0].runs[0].keys.training[:KEY_SHOWN]
        console.print(f"Its samples:  ear sample {key}{at_root}", soft_wrap=True)
