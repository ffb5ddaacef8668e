"""Decides what a driver does next: turns the runs of a `RunSource` into tasks for trials.

A task is a training node with its first batch of evaluations, or a batch of evaluations of a trained node. A node is
ready when the store holds its parent. A lease on each batch keeps other drivers of the same store from working on it
too. What is done, by any driver, is read from the store.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ear.store import Lease, Store
from sweeps.driver.evaluation_batches import BATCH, Batches
from sweeps.spec.run_source import RunSource
from sweeps.spec.runs import PlannedRun, RunResult, result_of
from sweeps.spec.stage_tree import StageTree, TrainingNode

RETRY_SECONDS = 2.0  # before another try to lease a batch that another driver holds


@dataclass(frozen=True)
class Task:
    """One unit of work for a trial: train a stage, run a batch of evaluations, or both."""

    node: TrainingNode
    runs: tuple[PlannedRun, ...]  # to evaluate; empty if only later stages follow this one
    trains: bool
    batch: str  # key that is leased while the task runs

    @property
    def key(self) -> str:
        """The store key of the task's first result."""
        return self.node.key if self.trains else self.runs[0].keys.evaluation

    @property
    def label(self) -> str:
        """The task's name in the progress table."""
        if not self.trains:
            return self.runs[0].label + (f" (+{len(self.runs) - 1} evaluations)" if len(self.runs) > 1 else "")
        return self.node.label


class Scheduler:
    """Hands out tasks and records how they end. Only the driver's main thread calls it."""

    def __init__(self, source: RunSource, store: Store, retries: int) -> None:
        """Creates a scheduler that tries a failed task again up to `retries` times."""
        self.tree = StageTree()
        self.settled: dict[str, RunResult] = {}  # by evaluation key
        self.on_settled: Callable[[PlannedRun, RunResult], object] = lambda *_: None
        """Called once for each run, when it ends or is found to have ended."""
        self.on_grown: Callable[[], object] = lambda: None
        """Called when there are new runs, before any of them starts."""
        self._source = source
        self._store = store
        self._retries = retries
        self._failures: Counter[str] = Counter()  # by training or evaluation key
        self._ready: deque[str] = deque()  # training keys of nodes with work to do whose parent is trained
        self._queued: set[str] = set()  # the same keys, for fast lookup
        self._trained: set[str] = set()  # nodes that were seen in the store
        self._unbegun = Batches()
        self._leases: dict[str, Lease] = {}  # held by this driver, by batch
        self._watched: dict[str, Lease] = {}  # others', by batch; each measures how long it was not renewed
        self._taken: dict[str, float] = {}  # batches that another driver holds -> when to try again
        self._in_hand: Task | None = None

    def start(self) -> None:
        """Adds the runs that are known from the start, and settles those whose result is in the store."""
        self._add(self._source.start())

    @property
    def done(self) -> bool:
        """Whether every known run has ended."""
        return len(self.settled) == len(self.tree.runs)

    def ready(self) -> bool:
        """Whether there is a task to start."""
        self._in_hand = self._in_hand or self.next()
        return self._in_hand is not None

    def next(self) -> Task | None:
        """Returns a task to start, already leased; None while nothing is ready."""
        task, self._in_hand = self._in_hand or self._take(), None
        while task is None and (more := self._source.propose()):
            self._add(more)
            task = self._take()
        return task

    def left_to_others(self) -> bool:
        """Whether other drivers hold all that is left, and will be enough for what becomes ready after it."""
        if self.ready():
            return False
        unsettled = [run for run in self.tree.runs.values() if run.keys.evaluation not in self.settled]
        stages = {key for run in unsettled for key in run.keys.stages}
        untrained = {key: key not in self._trained and key not in self._store for key in stages}
        coming = Counter(run.keys.training for run in unsettled if untrained[run.keys.training])
        return all(sum(untrained[key] for key in run.keys.stages) <= 1 for run in unsettled) and all(
            evaluations <= BATCH for evaluations in coming.values()
        )

    def remaining(self) -> tuple[int, int]:
        """Returns the training steps and the evaluations left in the known runs."""
        runs = [run for run in self.tree.runs.values() if run.keys.evaluation not in self.settled]
        nodes = {key for run in runs for key in run.keys.stages if key not in self._trained}
        return sum(self.tree.nodes[key].steps for key in nodes), len(runs)

    def trains_now(self, task: Task) -> bool:
        """Whether the task is still training, not yet evaluating."""
        return task.trains and task.node.key not in self._trained

    # What happened to a task

    def advanced(self, task: Task) -> None:
        """Settles what the task has put into the store since the last call."""
        if task.trains and task.node.key not in self._trained and task.node.key in self._store:
            self._see_trained(task.node)
            self._enqueue(task.node.key)  # for the batches that are not this task's
        for run in task.runs if task.node.key in self._trained else ():
            self._settle_from_store(run)

    def reported(self, task: Task, step: int, value: float) -> bool:
        """Records an intermediate value and returns whether the task must stop."""
        runs = self._unsettled_below(task.node)
        for run in runs:
            if self._source.report(run, step, value):
                self._settle(run, RunResult("pruned"))
        return not self._unsettled_below(task.node)

    def ended(self, task: Task) -> None:
        """Releases a task that no longer runs: finished, stopped or given back."""
        self._release(task.batch)
        self.advanced(task)
        for run in task.runs:
            if run.keys.evaluation not in self.settled:
                self._unbegun.put(run)
        self._enqueue(task.node.key)

    def failed(self, task: Task, traceback: str, evaluation: str | None = None, *, final: bool = False) -> bool:
        """Records a failure and returns whether the task will be tried again. Call `ended` afterwards.

        Args:
            traceback: the error.
            evaluation: the key of the evaluation that failed; None if the training did.
            final: whether another try would fail the same way.
        """
        key = evaluation or task.key
        self._failures[key] += 1
        if not final and self._failures[key] <= self._retries:
            return True
        if evaluation:
            runs = [self.tree.runs[evaluation]]
        elif task.node.key in self._store:
            runs = [run for run in task.runs if run.keys.evaluation not in self.settled]
        else:
            runs = self._unsettled_below(task.node)
        for run in runs:
            self._settle(run, RunResult("failed", traceback=traceback))
        return False

    def close(self) -> None:
        """Releases all leases when the driver ends."""
        for batch in list(self._leases):
            self._release(batch)
        self._source.close()

    # Adding runs

    def _add(self, runs: Iterable[PlannedRun]) -> None:
        before = len(self.tree.runs)
        for run in runs:
            if not self.tree.add(run):
                if (known := self.settled.get(run.keys.evaluation)) is not None:
                    self._add(self._source.settle(run, known))  # a search proposed the same run again
                continue
            self._unbegun.add(run)
            if not self._settle_from_store(run) and self._wanted([run]):
                self._unbegun.put(run)
                untrained = [key for key in run.keys.stages if key not in self._store]
                self._enqueue(untrained[0] if untrained else run.keys.training)
        if len(self.tree.runs) > before:
            self.on_grown()

    def _settle_from_store(self, run: PlannedRun) -> bool:
        if run.keys.evaluation not in self.settled and (result := result_of(run, self._store)) is not None:
            self._settle(run, result)
        return run.keys.evaluation in self.settled

    def _wanted(self, runs: list[PlannedRun]) -> list[PlannedRun]:
        """The runs that no other driver has stopped early or given up."""
        for run in runs:
            if (end := self._source.known_end(run)) is not None:
                self._settle(run, end)
        return [run for run in runs if run.keys.evaluation not in self.settled]

    def _settle(self, run: PlannedRun, result: RunResult) -> None:
        self.settled[run.keys.evaluation] = result
        self._unbegun.drop(run)
        self.on_settled(run, result)
        self._add(self._source.settle(run, result))

    # Handing out tasks

    def _enqueue(self, key: str, *, first: bool = False) -> None:
        if key not in self._queued:
            self._queued.add(key)
            (self._ready.appendleft if first else self._ready.append)(key)

    def _take(self) -> Task | None:
        """The first ready task that no other driver holds."""
        tried: set[str] = set()
        while self._ready and self._ready[0] not in tried:
            key = self._ready.popleft()
            tried.add(key)
            self._queued.discard(key)
            task, more = self._begin(self.tree.nodes[key])
            if more:
                self._enqueue(key, first=task is not None)
            if task is not None:
                return task
        return None

    def _begin(self, node: TrainingNode) -> tuple[Task | None, bool]:
        """A leased task at this node, and whether the node has more work, now or later."""
        if node.key in self._store:
            self._see_trained(node)
            return self._begin_evaluations(node), bool(self._unbegun.of(node.key))
        if node.key in self._leases or not self._unsettled_below(node):
            return None, False
        task = self._begin_training(node)
        return task, task is None and bool(self._unsettled_below(node))

    def _begin_training(self, node: TrainingNode) -> Task | None:
        if not self._lease(node.key):
            return None
        # Another driver may have finished it or given it up between our check and the lease.
        if node.key in self._store or not self._wanted(self._unsettled_below(node)):
            self._release(node.key)
            return None
        runs = self._unbegun.of(node.key).get(node.key, [])
        return self._task(node, runs, True, node.key)

    def _begin_evaluations(self, node: TrainingNode) -> Task | None:
        for batch, waiting in self._unbegun.of(node.key).items():
            if not self._lease(batch):
                continue
            runs = self._wanted([run for run in waiting if not self._settle_from_store(run)])
            if runs:
                return self._task(node, runs, False, batch)
            self._release(batch)
        return None

    def _task(self, node: TrainingNode, runs: list[PlannedRun], trains: bool, batch: str) -> Task:
        for run in runs:
            self._unbegun.drop(run)
        return Task(node, tuple(runs), trains, batch)

    def _lease(self, batch: str) -> bool:
        """Whether this call leased the batch for this driver."""
        now = time.monotonic()
        if batch in self._leases or self._taken.get(batch, 0.0) > now:
            return False
        lease = self._watched.setdefault(batch, self._store.lease(batch))
        if not lease.acquire():
            self._taken[batch] = now + RETRY_SECONDS
            return False
        self._taken.pop(batch, None)
        self._leases[batch] = self._watched.pop(batch)
        return True

    def _release(self, batch: str) -> None:
        if (lease := self._leases.pop(batch, None)) is not None:
            lease.release()

    def _see_trained(self, node: TrainingNode) -> None:
        """Queues the stages that start from a trained node; if it diverged, settles the runs below it."""
        if node.key in self._trained:
            return
        self._trained.add(node.key)
        for run in self.tree.runs_below(node.key):
            self._settle_from_store(run)
        for child in reversed(node.children):
            self._enqueue(child, first=True)

    def _unsettled_below(self, node: TrainingNode) -> list[PlannedRun]:
        return [run for run in self.tree.runs_below(node.key) if run.keys.evaluation not in self.settled]
