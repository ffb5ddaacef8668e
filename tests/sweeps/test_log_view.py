"""`ear sweep logs` finds the log that is meant; `ear sweep status` knows what trains at present."""

import os
from pathlib import Path

import pytest
from simulated import plan_of

from ear.errors import UserError
from ear.store import Store
from sweeps.driver.sweep_folder import DriverState, SweepFolder
from sweeps.driver.task_progress import Row
from sweeps.views.log_view import chosen_log, existing_logs, show_log
from sweeps.views.run_states import run_states

SWEEP = "name: s\nspace: {scoring.alpha: [1.0, 1.25, 1.5]}\n"


def test_a_log_is_found_by_label_or_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan, folder = plan_of(tmp_path, SWEEP), SweepFolder(tmp_path, "s")
    folder.drivers.mkdir(parents=True)
    with pytest.raises(UserError, match="no logs"):
        show_log(plan, tmp_path, None, follow=False)
    nodes = [node for node in plan.tree.nodes.values() if node.evaluations]
    for age, node in enumerate(nodes):
        log = folder.log(node.key)
        log.parent.mkdir(exist_ok=True)
        log.write_text(f"log of {node.label}\x1b[2J\n")
        os.utime(log, (1000 - age, 1000 - age))
    logs = existing_logs(plan.tree, folder)
    assert chosen_log(logs, None, "s").key == nodes[0].key  # written last
    assert chosen_log(logs, "alpha=1.25", "s").key == nodes[1].key
    assert chosen_log(logs, nodes[2].key[:8], "s").key == nodes[2].key
    assert chosen_log(logs, next(iter(nodes[2].evaluations))[:8], "s").key == nodes[2].key
    with pytest.raises(UserError, match=f"3 logs of s .*\n  {nodes[0].key[:12]}  alpha=1.0"):
        chosen_log(logs, "seed=0", "s")
    with pytest.raises(UserError, match="No log of s is of 'alpha=3'"):
        chosen_log(logs, "alpha=3", "s")
    show_log(plan, tmp_path, "alpha=1.5", follow=False)
    assert capsys.readouterr().out == f"log of {nodes[2].label}\\x1b[2J\n"


def test_what_trains_is_not_to_do(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, SWEEP)
    rows = [Row(plan.tree.roots()[0].label, 10, "training"), Row(plan.runs[1].label, 10, "evaluating")]
    driver = DriverState("host", 1, "", "", "", rows)
    found = run_states(plan.tree, Store(tmp_path), {plan.runs[2].keys.evaluation: "failed"}, [driver])
    assert [each.state for each in found] == ["training", "evaluating", "failed"]
    assert {each.state for each in run_states(plan.tree, Store(tmp_path), {}, [])} == {"to do"}
