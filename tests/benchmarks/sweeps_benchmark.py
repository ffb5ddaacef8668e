"""What the sweep engine costs beside training: planning, a node, the driver's memory."""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from interrupt import interrupting

from sweeps.spec.plan import compile_plan
from sweeps.spec.stage_tree import StageTree, Steps

PAPER = Path(__file__).parents[2] / "sweeps" / "paper"
ALPHAS = [round(1 + index / 20, 2) for index in range(10)]
SHARES = [round(1 - index / 20, 2) for index in range(10)]
GRID = f"""
name: grid
set: {{training.stages.0.steps: 40, training.stages.1.steps: 10, evaluation.images: 20, evaluation.null_images: 20}}
space:
  scoring.alpha: {ALPHAS}
  training.stages.-1.train_temperature: {SHARES}
  sampling.infer_temperature: {SHARES}
  sampling.cfg: {ALPHAS}
"""


def sweeps() -> None:
    with tempfile.TemporaryDirectory(prefix="ear-bench-") as folder:
        planning(Path(folder))
    sharing()
    nodes()
    interrupting()


def planning(folder: Path) -> None:
    """10,000 configurations: validated, keyed, and made a tree."""
    path = folder / "grid.yaml"
    path.write_text(GRID)
    compile_plan(path).tree  # noqa: B018 (imports and the dataset are loaded)
    times = []
    for _ in range(5):
        started = time.perf_counter()
        plan = compile_plan(path)
        runs = len(plan.tree.runs)
        times.append(time.perf_counter() - started)
    print(f"planning {runs:,} configurations: {statistics.median(times):.2f} s ({min(times):.2f} to {max(times):.2f})")


def sharing() -> None:
    """The paper's suite on one store."""
    suite = StageTree()
    without = evaluation_only = 0
    for path in sorted(PAPER.glob("*.yaml")):
        plan = compile_plan(path)
        without += Steps.of(plan.tree).without_sharing
        for run in plan.runs:
            suite.add(run)
    steps = Steps.of(suite)
    evaluation_only = steps.evaluation_sharing_only
    print(
        f"the paper's suite, {len(suite.runs)} different runs: {without:,} training steps without sharing, "
        f"{evaluation_only:,} with evaluation-only sharing ({without / evaluation_only:.2f} times fewer), "
        f"{steps.full_sharing:,} with full sharing ({without / steps.full_sharing:.2f} times fewer)"
    )


def nodes() -> None:
    """Nodes that do nothing, each count in a process of its own, whose memory is then the driver's."""
    for count in (100, 2000):
        subprocess.run([sys.executable, str(Path(__file__).with_name("noop_sweep.py")), str(count)], check=True)


if __name__ == "__main__":
    sweeps()
