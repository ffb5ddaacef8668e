"""A sweep whose nodes do nothing: what is left is what the engine costs."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from sweeps.conductor import Conductor
from sweeps.plan import compile_plan
from sweeps.ray_cluster import local_cluster
from sweeps.runner import fit
from sweeps.session import Session, SweepFolder
from sweeps.source import Grid
from sweeps.tree import TrainingNode
from sweeps.work import Task

SWEEP = "name: noop\nspace: {scoring.alpha: [1.0]}\n"


class NoWork:
    """Hands out tasks with neither a training nor evaluations."""

    def __init__(self, node: TrainingNode, count: int) -> None:
        self.left = count
        self.node = node
        self.on_settled: Any = None
        self.tree = SimpleNamespace(runs_below=lambda _: [], runs={})
        self.settled: dict[str, Any] = {}

    def next(self) -> Task | None:
        self.left -= 1
        return Task(self.node, (), False) if self.left >= 0 else None

    def advanced(self, task: Task) -> None: ...

    def ended(self, task: Task) -> None: ...

    def remaining(self) -> tuple[int, int]:
        return 0, 0


def run_noop_sweep(folder: Path, count: int) -> float:
    """Seconds of Tune's part, Ray's start left out."""
    path = folder / "noop.yaml"
    path.write_text(SWEEP)
    plan = compile_plan(path)
    work: Any = NoWork(next(iter(plan.tree.nodes.values())), count)
    tracker: Any = SimpleNamespace()
    with Session(SweepFolder(folder, "noop")).opened() as session:
        conductor = Conductor(work, Grid(()), tracker, session)
        with local_cluster(2, 0) as temporary:
            started = time.perf_counter()
            fit(plan, folder, conductor, session, 2, temporary / "tune")
            return time.perf_counter() - started
