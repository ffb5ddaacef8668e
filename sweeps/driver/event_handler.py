"""Brings together what happens: trials report, the work advances, the board, MLflow and the driver's state follow."""

import time
import warnings
from collections import Counter
from contextlib import suppress

from sweeps.driver.progress_table import Counts, ProgressTable, State
from sweeps.driver.running_driver import RunningDriver
from sweeps.driver.scheduler import Scheduler, Task
from sweeps.search.run_source import RunSource
from sweeps.spec.runs import PlannedRun, RunResult
from sweeps.tracking.tracker import Tracker
from sweeps.trial.messages import Report

NOT_BEGUN = "raised in its creation task"  # in Ray's words, of an error before the first task
NODE_GONE = "its node has died"  # in Ray's words: a machine of several was lost, or its raylet killed
NODES_LOST = 3  # under one task, after which it may be what costs a machine its life
RUNS_FOLLOWED = 8  # of those that a task is done for
FIRST_REPORT_SECONDS = 1.0  # that a stop waits for trials which have not reported yet: most of them are still importing


class EventHandler:
    """Called by Tune's adapters in the driver's only thread."""

    def __init__(self, scheduler: Scheduler, source: RunSource, tracker: Tracker, driver: RunningDriver) -> None:
        self.scheduler = scheduler
        self.stop_reason: str | None = None  # why everything is to end, once it is
        self.tasks: dict[str, Task] = {}  # at work, by trial
        self.table: ProgressTable | None = None
        self._reported: set[str] = set()  # of these trials, those that have
        self._nodes_lost: Counter[str] = Counter()  # by task
        self._stopped_at = 0.0
        self._tracker = tracker
        self._driver = driver
        self._source = source
        scheduler.on_settled = self.settled

    @property
    def stopping(self) -> bool:
        if self.stop_reason is None and self._driver.stop_requested():
            self.stop("asked to by `ear sweep stop`")
        return self.stop_reason is not None

    def stop(self, reason: str = "interrupted") -> None:
        """Ends the sweep as soon as its trials have saved what they have."""
        self._stopped_at = self._stopped_at or time.monotonic()
        self.stop_reason = self.stop_reason or reason
        with suppress(OSError):  # where nothing can be written trials find out by themselves
            self._driver.stopping.touch()

    @property
    def at_rest(self) -> bool:
        """Everything is to end, and no trial has anything (more) to save; an evaluation never has."""
        if not self.stopping:
            return False
        training = {trial for trial, task in self.tasks.items() if self.scheduler.trains_now(task)}
        patient = time.monotonic() - self._stopped_at < FIRST_REPORT_SECONDS
        return not (training if patient else training & self._reported)

    def next(self, trial: str) -> Task | None:
        """A task to begin as this trial."""
        if self.stopping or (task := self.scheduler.next()) is None:
            return None
        self.tasks[trial] = task
        self._driver.begin(task.node.key)
        for run in self._followed(task):
            self._tracker.begin(run, self._source.tags(run))
        if self.table:
            self.table.begin(trial, task.label, task.node.end_step)
        return task

    def report(self, trial: str, report: Report) -> bool:
        """Takes in a trial's report; says whether it is to be stopped."""
        task = self.tasks[trial]
        self._reported.add(trial)
        if report.records:
            for run in self._followed(task):
                self._tracker.progress(run, report.records)
        if report.state == "failed":
            self._fail(trial, task, report)
            return True
        self.scheduler.advanced(task)
        hopeless = False
        for step, value in report.intermediate:
            for run in self._followed(task):
                self._tracker.intermediate(run, step, value)
            hopeless = self.scheduler.reported(task, step, value)
        loss = report.records[-1].loss if report.records else None
        self._show(trial, "stopped early" if hopeless else self._state(task, report), report.step, loss)
        return hopeless

    def lost(self, trial: str, reason: str) -> None:
        """The trial's process is gone, or never came to be; `reason` is what Ray says of it."""
        task = self.tasks[trial]
        if NODE_GONE in reason and self._nodes_lost[task.key] < NODES_LOST:  # no fault of the trial's
            self._nodes_lost[task.key] += 1
            self._show(trial, "retrying")
            return
        began = NOT_BEGUN not in reason
        how = "died: killed, out of memory, or crashed in native code" if began else "could not begin, see above"
        words = f"{reason}\nThe trial's process {how}."
        self._fail(trial, task, Report("failed", traceback=words.strip()))

    def cluster_lost(self, reason: str, again: bool) -> None:
        """Ray is gone, and all trials with it, which is no fault of theirs; `again` is whether it is started anew."""
        if not again:
            self.stop(f"{reason}, again and again")
        elif not self.stopping:
            warnings.warn(f"{reason}: it is started anew, and trials go on from their checkpoints.", stacklevel=2)
        for trial in list(self.tasks):
            self._show(trial, "retrying" if again else "stopped")
            self.ended(trial)

    def ended(self, trial: str) -> None:
        """The trial ended, in whatever way."""
        self._reported.discard(trial)
        task = self.tasks.pop(trial, None)
        if task is not None:
            self.scheduler.ended(task)

    def settled(self, run: PlannedRun, result: RunResult) -> None:
        """A run has ended; called by the work, once for each."""
        match result.state:
            case "evaluated" | "diverged":
                self._tracker.finish(run, self._source.tags(run))
            case "pruned":
                self._tracker.prune(run, self._source.tags(run))
            case "failed":
                self._tracker.fail(run, self._source.tags(run), result.traceback)

    def tick(self) -> None:
        """Called between two events."""
        if self.table:
            self.table.tick()
            self._driver.write(self.table)

    def counts(self) -> Counts:
        steps, evaluations = self.scheduler.remaining()
        return Counts(
            len(self.scheduler.settled), len(self.scheduler.tree.runs), steps, evaluations, self._source.progress_note()
        )

    def confirms(self, task: Task) -> bool:
        """Whether it measures again what a search has found, and is not to be stopped."""
        return any(self._source.tags(run).get("ear.role") == "confirmation" for run in self._concerned(task))

    def _fail(self, trial: str, task: Task, report: Report) -> None:
        if report.fault in ("storage", "code"):
            *_, last = report.traceback.strip().splitlines()
            whole = {"storage": f"nothing can be written any more ({last})", "code": last.partition(": ")[2]}
            self.stop(whole[report.fault])
            self._show(trial, "failed", report.step)
            return
        again = self.scheduler.failed(task, report.traceback, report.evaluation, final=report.fault == "input")
        if not again:
            settled = self.scheduler.settled
            keys = [run.keys.evaluation for run in self._concerned(task) if run.keys.evaluation in settled]
            failed = [key for key in keys if settled[key].state == "failed"]
            self._driver.fail(task.label, task.node.key, failed, report.traceback)
        self._show(trial, "retrying" if again else "failed", report.step)

    def _show(self, trial: str, state: State, steps: int | None = None, loss: float | None = None) -> None:
        if self.table:
            self.table.update(trial, state, steps, loss)

    def _state(self, task: Task, report: Report) -> State:
        results = [self.scheduler.settled.get(run.keys.evaluation) for run in self._concerned(task)]
        if results and all(result is not None and result.state == "diverged" for result in results):
            return "diverged"
        return report.state

    def _followed(self, task: Task) -> list[PlannedRun]:
        """Whose curve MLflow gets while it is drawn; the others of a stage that many share get it at their end."""
        return [run for run in self._concerned(task) if run.keys.evaluation not in self.scheduler.settled][
            :RUNS_FOLLOWED
        ]

    def _concerned(self, task: Task) -> list[PlannedRun]:
        """The runs that a task is done for: a shared stage's are all that start from it."""
        return self.scheduler.tree.runs_below(task.node.key) if task.trains else list(task.runs)
