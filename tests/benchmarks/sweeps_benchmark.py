"""What the sweep engine costs beside training: planning, a node, the driver's memory."""

import resource
import statistics
import tempfile
import time
from pathlib import Path

from ear.store import Store
from sweeps.plan import compile_plan
from sweeps.tree import StageTree, Steps

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
        nodes(Path(folder))


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


def nodes(folder: Path, count: int = 100) -> None:
    """Nodes that do nothing, through the real driver, Ray Tune and its trials."""
    from noop_sweep import run_noop_sweep

    Store(folder)
    seconds = run_noop_sweep(folder, count)
    print(f"{count} no-op nodes: {seconds / count:.3f} s a node beyond ray.init")
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"the driver's memory after them: {megabytes:.0f} MB")


if __name__ == "__main__":
    sweeps()
