"""`ear sweep list`: which sweeps an output root has, without their YAML files."""

import json
from pathlib import Path

from in_process import ear
from simulated import plan_of, publish_evaluation, publish_training

from ear.store import Store
from ear.store.uses import record_use
from sweeps.driver.progress_table import ProgressTable
from sweeps.driver.running_driver import RunningDriver
from sweeps.driver.sweep_folder import SweepFolder
from sweeps.driver.task_progress import Counts
from sweeps.spec.plan import Plan
from sweeps.views.list_view import listed_sweeps


def recorded(plan: Plan, root: Path) -> None:
    keys = {key for run in plan.runs for key in (*run.keys.stages, run.keys.evaluation)}
    record_use(Store(root), plan.identity.user, keys)


def test_it_counts_results_failures_and_drivers(tmp_path: Path) -> None:
    first = plan_of(tmp_path, "name: first\nspace: {scoring.alpha: [1.0, 1.25]}\n")
    second = plan_of(tmp_path, "name: second\nspace: {scoring.alpha: [1.0, 1.5]}\n")
    store = Store(tmp_path)
    for plan in (first, second):
        recorded(plan, tmp_path)
    record_use(store, "train digits 12345678", ["0" * 64])
    record_use(store, "report first", ["0" * 64])
    shared = first.runs[0]
    for stage in shared.keys.stages:
        publish_training(store, first.tree.nodes[stage])
    publish_evaluation(store, shared)
    failure = SweepFolder(tmp_path, "second").failure_file("k")
    failure.parent.mkdir(parents=True)
    failure.write_text(json.dumps({"label": "l", "runs": [], "log": "", "last_lines": []}))
    found = {sweep.name: sweep for sweep in listed_sweeps(tmp_path)}
    assert {name: (each.results, each.failed, each.drivers) for name, each in found.items()} == {
        "first": (3, 0, 0),  # two stages and an evaluation, which both sweeps need
        "second": (3, 1, 0),
    }
    folder = SweepFolder(tmp_path, "first")
    with RunningDriver(folder).opened() as driver:
        driver.write(ProgressTable("first", 1, lambda: Counts(0, 0, 0, 0, "")))
        assert {sweep.name: sweep.drivers for sweep in listed_sweeps(tmp_path)} == {"first": 1, "second": 0}
    assert found["first"].digest == first.identity.digest[:8]
    printed = ear("sweep", "list", "--root", tmp_path).stdout
    assert [line.split()[:3] for line in printed.splitlines()[1:]] in (
        [["first", "3", "none"], ["second", "3", "1"]],
        [["second", "3", "1"], ["first", "3", "none"]],
    )
    assert {each["name"] for each in json.loads(ear("sweep", "list", "--root", tmp_path, "--json").stdout)} == set(
        found
    )


def test_sweeps_of_one_name_are_told_apart(tmp_path: Path) -> None:
    plans = [plan_of(tmp_path, f"name: same\nspace: {{scoring.alpha: [1.0, {alpha}]}}\n") for alpha in (1.25, 1.5)]
    for plan in plans:
        recorded(plan, tmp_path)
    printed = ear("sweep", "list", "--root", tmp_path).stdout
    assert all(f"same ({plan.identity.digest[:8]})" in printed for plan in plans)


def test_a_root_without_sweeps(tmp_path: Path) -> None:
    assert "No sweep was run below" in ear("sweep", "list", "--root", tmp_path / "none").stdout
    assert json.loads(ear("sweep", "list", "--root", tmp_path / "none", "--json").stdout) == []
    assert not (tmp_path / "none").exists()
