"""A sweep whose nodes do nothing: what is left is what the engine costs.

The driver, Ray Tune, its trials and MLflow are real; the results lie in the store beforehand.
    python tests/benchmarks/noop_sweep.py 2000
"""

import json
import re
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ear.run
from ear.evaluation.result import Evaluation
from ear.store import Store
from ear.training.history import TrainingRecord
from sweeps.driver.event_handler import EventHandler
from sweeps.driver.ray_cluster import ray_cluster
from sweeps.driver.run_sweep import fit
from sweeps.driver.running_driver import RunningDriver
from sweeps.driver.scheduler import Task
from sweeps.driver.sweep_folder import SweepFolder
from sweeps.spec.plan import Plan, compile_plan
from sweeps.spec.run_source import Grid
from sweeps.spec.runs import PlannedRun, RunResult
from sweeps.tracking.tracker import Tracker

CURVE = [TrainingRecord(step, 1.0, 1.0, 1e-3, 1.0) for step in range(25, 1201, 25)]


class NoWork:
    """Hands out tasks in which there is nothing to do; when one ends, a run of the plan has its result."""

    def __init__(self, plan: Plan) -> None:
        self.left = list(plan.runs)
        self.node = next(iter(plan.tree.nodes.values()))
        self.begun: list[PlannedRun] = []
        self.tree = SimpleNamespace(runs_below=lambda _: [], runs={})
        self.settled: dict[str, Any] = {}
        self.on_settled: Any = None

    def next(self) -> Task | None:
        if not self.left:
            return None
        self.begun.append(self.left.pop())
        return Task(self.node, (), False, self.node.key)

    def advanced(self, task: Task) -> None: ...

    def ended(self, task: Task) -> None:
        self.on_settled(self.begun.pop(), RunResult("evaluated"))

    def remaining(self) -> tuple[int, int]:
        return 0, len(self.left)


def publish_results(plan: Plan, store: Store) -> None:
    metrics = {"fid": 20.0, "is": 8.0, "precision": 0.6, "recall": 0.5}
    evaluation = Evaluation(metrics, "classifier", 0.99, "0", "digits/train", 1297, 2000, 1000, 1.0)

    def fill(folder: Path) -> None:
        (folder / "evaluation.json").write_text(json.dumps(asdict(evaluation)))
        for name in ("samples.png", "samples_null.png"):
            (folder / name).write_bytes(b"0" * 10_000)

    for node in plan.tree.nodes.values():
        details = {"step": node.end_step, "seconds": 1.0, "diverged_at": None}
        store.publish(node.key, "training", lambda _: None, details)
    for run in plan.runs:
        store.publish(run.keys.evaluation, "evaluation", fill)


def run_noop_sweep(folder: Path, count: int) -> tuple[float, float]:
    """Seconds of Tune's part, Ray's start left out, and of what MLflow's thread still had to write then."""
    path = folder / "noop.yaml"
    values = [round(0.5 + index / 2 / count, 6) for index in range(count)]
    path.write_text(f"name: noop\nspace: {{sampling.infer_temperature: {values}}}\n")
    plan, store = compile_plan(path), Store(folder)
    publish_results(plan, store)
    ear.run.from_tensors = lambda _: CURVE  # type: ignore[attr-defined, assignment]
    ear.run.load_part = lambda *_: {}  # type: ignore[attr-defined, assignment]
    work: Any = NoWork(plan)
    tracker = Tracker(plan.identity, store, folder)
    with RunningDriver(SweepFolder(folder, "noop")).opened() as driver:
        handler = EventHandler(work, Grid(()), tracker, driver)
        with ray_cluster(2, 0) as temporary:
            started = time.perf_counter()
            fit(plan, folder, handler, driver, 2, temporary / "tune")
            done = time.perf_counter()
            tracker.close(complete=True)
            return done - started, time.perf_counter() - done


if __name__ == "__main__":
    nodes = int(sys.argv[1])
    with tempfile.TemporaryDirectory(prefix="ear-") as scratch:
        driving, writing = run_noop_sweep(Path(scratch), nodes)
    # getrusage's maximum would be inherited from whoever started this process.
    kinds = dict(re.findall(r"(VmHWM|RssFile):\s+(\d+) kB", Path("/proc/self/status").read_text()))
    most, libraries = (int(kinds[kind]) / 1024 for kind in ("VmHWM", "RssFile"))
    print(
        f"{nodes} no-op nodes: {driving / nodes:.3f} s a node beyond ray.init, then {writing:.1f} s until MLflow had "
        f"all of it; the driver's memory at most {most:.0f} MiB, {libraries:.0f} of them files that processes share"
    )
