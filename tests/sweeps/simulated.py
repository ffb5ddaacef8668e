"""A store filled without training, and sweeps carried out without Ray; what the driver decides is real."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ear.evaluation.result import Evaluation
from ear.store import Store
from sweeps.driver.scheduler import Scheduler, Task
from sweeps.spec.plan import Plan, compile_plan
from sweeps.spec.runs import PlannedRun
from sweeps.spec.stage_tree import TrainingNode

OVER = object()


def plan_of(folder: Path, text: str) -> Plan:
    path = folder / "sweep.yaml"
    path.write_text(text)
    return compile_plan(path)


def publish_training(store: Store, node: TrainingNode, diverged_at: int | None = None) -> None:
    step = node.end_step if diverged_at is None else diverged_at - 1
    details = {"step": step, "seconds": 0.01 * step, "diverged_at": diverged_at}
    store.publish(node.key, "training", lambda _: None, details)


def publish_evaluation(
    store: Store, run: PlannedRun, fid: float = 20.0, recall: float = 0.5, needs: Sequence[str] = ()
) -> None:
    evaluation = Evaluation(
        metrics={"fid": fid, "is": 8.0, "is_std": 0.2, "precision": 0.6, "recall": recall},
        extractor="classifier",
        extractor_accuracy=0.99,
        extractor_hash="0",
        reference=f"digits/{run.config.evaluation.reference}",
        reference_images={"train": 1297, "test": 500}[run.config.evaluation.reference],
        images=run.config.evaluation.images,
        null_images=run.config.evaluation.null_images,
        seconds=1.0,
    )

    def fill(folder: Path) -> None:
        (folder / "evaluation.json").write_text(json.dumps(asdict(evaluation)))

    store.publish(run.keys.evaluation, "evaluation", fill, {"training": run.keys.training}, needs)


@dataclass
class Hands:
    """Carries tasks out, at once; counts what it did."""

    store: Store
    diverge: Callable[[TrainingNode], bool] = lambda _: False
    fid: Callable[[PlannedRun], float] = lambda _: 20.0
    recall: Callable[[PlannedRun], float] = lambda _: 0.5
    trained: Counter[str] = field(default_factory=Counter)
    evaluated: Counter[str] = field(default_factory=Counter)

    def do(self, work: Scheduler, task: Task) -> None:
        for _ in self.steps(work, task):
            pass

    def steps(self, work: Scheduler, task: Task) -> Iterator[None]:
        """A training, then one evaluation after another: in between, other drivers may look at the store."""
        if task.trains:
            assert task.node.parent is None or task.node.parent in self.store, "began before its parent was there"
            self.trained[task.node.key] += 1
            publish_training(self.store, task.node, 5 if self.diverge(task.node) else None)
            work.advanced(task)
            yield
        for run in task.runs:
            if not (task.trains and self.diverge(task.node)):
                self.evaluated[run.keys.evaluation] += 1
                publish_evaluation(self.store, run, self.fid(run), self.recall(run))
                work.advanced(task)
                yield
        work.ended(task)


def work_through(
    works: Sequence[Scheduler], hands: Hands, choose: Callable[[int], int] = lambda count: count - 1
) -> None:
    """Several drivers in turns, each with tasks at work at the same time; `choose` says which one gets on next."""
    at_work: list[tuple[Scheduler, Iterator[None]]] = []
    while True:
        for work in works:
            while len([each for each, _ in at_work if each is work]) < 3 and (task := work.next()):
                at_work.append((work, hands.steps(work, task)))
        if not at_work:
            return
        number = choose(len(at_work))
        if next(at_work[number][1], OVER) is OVER:
            del at_work[number]
