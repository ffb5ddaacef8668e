"""What says in words what is wrong, planned or done does not wait for libraries that compute."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from simulated import plan_of, publish_evaluation, publish_training

from ear.cost import _counted
from ear.data.content import dataset_content
from ear.store import Store
from sweeps.views.plan_view import show_plan

SWEEP = "name: tiny\nbase: digits\nspace: {scoring.alpha: [1.0, 1.25]}\n"
COMPUTING = ("torch", "torch._dynamo", "sympy", "sklearn", "scipy", "numpy", "pandas", "matplotlib")
ORCHESTRATING = ("ray", "mlflow", "optuna", "submitit")

# In one process, since what one command imports stays for the next: after each, its exit code and what is there.
RUN = """
import json, sys
from ear.cli import main
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["ear", *arguments]
    try:
        main()
        code = 0
    except SystemExit as end:
        code = end.code or 0
    print(json.dumps([code, [name for name in json.loads(HEAVY) if name in sys.modules]]), file=sys.stderr)
import sweeps.driver.run_sweep, sweeps.tracking.mlflow_runs
print(json.dumps([0, [name for name in json.loads(HEAVY) if name in sys.modules]]), file=sys.stderr)
import analysis.report
print(json.dumps([0, [name for name in ("torch", "sklearn", "ray", "sympy") if name in sys.modules]]), file=sys.stderr)
""".replace("HEAVY", repr(json.dumps((*COMPUTING, *ORCHESTRATING))))


def test_what_only_looks_imports_nothing_heavy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And neither does a sweep's driver before there is something to do; a report needs what draws, and no more."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    for function in (dataset_content, _counted):  # this process may have remembered elsewhere
        function.cache_clear()
    plan = plan_of(tmp_path, SWEEP)
    show_plan(plan, Store(tmp_path / "empty"), as_json=True)  # the first time, what is remembered has to be computed
    store = Store(tmp_path / "runs")
    for node in plan.tree.nodes.values():
        publish_training(store, node)
    publish_evaluation(store, plan.runs[0])
    (tmp_path / "runs" / "tiny" / "drivers").mkdir(parents=True)
    (tmp_path / "wrong.yaml").write_text(SWEEP.replace("space", "spaec"))
    file, root = str(plan.source), ["--root", str(tmp_path / "runs")]
    commands = {
        2: [["sweep", "plan", str(tmp_path / "wrong.yaml")], ["train", "digits", "--set", "model.widht=3"]],
        0: [
            ["schema", "sweep"],
            ["sweep", "plan", file, "--root", str(tmp_path / "empty")],
            ["sweep", "plan", file, *root],
            ["sweep", "status", file, *root],
            ["store", "list", *root],
            ["sweep", "list", *root],
        ],
    }
    typed = [arguments for some in commands.values() for arguments in some]
    done = subprocess.run([sys.executable, "-c", RUN, json.dumps(typed)], capture_output=True, text=True)
    said = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("[")]
    codes = [code for code, some in commands.items() for _ in some]
    assert said == [[code, []] for code in [*codes, 0, 0]], done.stderr
    assert "tiny: 2 runs: 1 evaluated, 1 trained." in done.stdout
