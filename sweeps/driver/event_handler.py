"""Handles events: on a trial's report, updates the scheduler, the progress table, MLflow and the driver's state."""

import time
import warnings
from collections import Counter
from contextlib import suppress

from sweeps.driver.progress_table import ProgressTable
from sweeps.driver.running_driver import RunningDriver
from sweeps.driver.scheduler import Scheduler, Task
from sweeps.driver.task_progress import Counts, State
from sweeps.spec.run_source import RunSource
from sweeps.spec.runs import PlannedRun, RunResult
from sweeps.spec.tags import CONFIRMATION_ROLE, ROLE
from sweeps.tracking.tracker import Tracker
from sweeps.trial.messages import Report

NOT_BEGUN = "raised in its creation task"  # Ray's wording for an error before the trial's first step
NODE_GONE = "its node has died"  # Ray's wording when a machine of the cluster is lost or its raylet is killed
NODES_LOST = 3  # machines lost under one task, after which the task itself may be the cause
RUNS_FOLLOWED = 8  # runs of one task whose curves MLflow gets live
FIRST_REPORT_SECONDS = 1.0  # how long a stop waits for trials without a report yet: most are still importing


class EventHandler:
    """Connects Tune's adapters to the scheduler, the progress table, MLflow and the driver's state.

    Tune's adapters call it in the driver's main thread.
    """

    def __init__(self, scheduler: Scheduler, source: RunSource, tracker: Tracker, driver: RunningDriver) -> None:
        self.scheduler = scheduler
        self.stop_reason: str | None = None  # why the sweep is stopping; None while it is not
        self.tasks: dict[str, Task] = {}  # running tasks, by trial
        self.table: ProgressTable | None = None
        self._reported: set[str] = set()  # running trials that have reported at least once
        self._nodes_lost: Counter[str] = Counter()  # machines lost, by task
        self._stopped_at = 0.0
        self._tracker = tracker
        self._driver = driver
        self._source = source
        scheduler.on_settled = self.settled

    @property
    def stopping(self) -> bool:
        """Whether the sweep is stopping: by `stop`, or by a request of `ear sweep stop`."""
        if self.stop_reason is None and self._driver.stop_requested():
            self.stop("requested by `ear sweep stop`")
        return self.stop_reason is not None

    def stop(self, reason: str = "interrupted") -> None:
        """Stops the sweep as soon as its trials have saved their work."""
        self._stopped_at = self._stopped_at or time.monotonic()
        self.stop_reason = self.stop_reason or reason
        with suppress(OSError):  # if nothing can be written, the trials fail by themselves
            self._driver.stopping.touch()

    @property
    def at_rest(self) -> bool:
        """Whether the sweep is stopping and no trial has anything left to save; evaluations save nothing."""
        if not self.stopping:
            return False
        training = {trial for trial, task in self.tasks.items() if self.scheduler.trains_now(task)}
        patient = time.monotonic() - self._stopped_at < FIRST_REPORT_SECONDS
        return not (training if patient else training & self._reported)

    def next(self, trial: str) -> Task | None:
        """Returns a task to start as this trial; None if nothing is ready."""
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
        """Processes a trial's report and returns whether the trial must stop."""
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
        """Handles a trial whose process died or never started; `reason` is Ray's message."""
        task = self.tasks[trial]
        if NODE_GONE in reason and self._nodes_lost[task.key] < NODES_LOST:  # not the trial's fault
            self._nodes_lost[task.key] += 1
            self._show(trial, "retrying")
            return
        began = NOT_BEGUN not in reason
        how = "died: killed, out of memory, or crashed in native code" if began else "could not start, see above"
        words = f"{reason}\nThe trial's process {how}."
        self._fail(trial, task, Report("failed", traceback=words.strip()))

    def cluster_lost(self, reason: str, again: bool) -> None:
        """Handles the loss of Ray and all its trials, which does not count against them.

        `again` is whether Ray is restarted.
        """
        if not again:
            self.stop(f"{reason}, repeatedly")
        elif not self.stopping:
            warnings.warn(f"{reason}: restarting it; trials resume from their checkpoints.", stacklevel=2)
        for trial in list(self.tasks):
            self._show(trial, "retrying" if again else "stopped")
            self.ended(trial)

    def ended(self, trial: str) -> None:
        """Handles the end of a trial, however it ended."""
        self._reported.discard(trial)
        task = self.tasks.pop(trial, None)
        if task is not None:
            self.scheduler.ended(task)

    def settled(self, run: PlannedRun, result: RunResult) -> None:
        """Records the end of a run in MLflow. The scheduler calls it once for each run."""
        if self.table and result.state == "evaluated":
            self.table.evaluated(self._trial_of(run), run.label, result.metrics)
        match result.state:
            case "evaluated" | "diverged":
                self._tracker.finish(run, self._source.tags(run))
            case "pruned":
                self._tracker.prune(run, self._source.tags(run))
            case "failed":
                self._tracker.fail(run, self._source.tags(run), result.traceback)

    def tick(self) -> None:
        """Refreshes the table and the driver's state file; called between events."""
        if self.table:
            self.table.tick()
            self._driver.write(self.table)

    def counts(self) -> Counts:
        """Returns the sweep's overall progress."""
        steps, evaluations = self.scheduler.remaining()
        return Counts(
            len(self.scheduler.settled), len(self.scheduler.tree.runs), steps, evaluations, self._source.progress_note()
        )

    def confirms(self, task: Task) -> bool:
        """Whether the task belongs to a search's confirmation, which early stopping must leave alone."""
        return any(self._source.tags(run).get(ROLE) == CONFIRMATION_ROLE for run in self._concerned(task))

    def _fail(self, trial: str, task: Task, report: Report) -> None:
        if report.fault in ("storage", "code"):
            *_, last = report.traceback.strip().splitlines()
            whole = {"storage": f"results can't be written ({last})", "code": last.partition(": ")[2]}
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

    def _trial_of(self, run: PlannedRun) -> str | None:
        """The trial that evaluates the run; None if another driver does."""
        key = run.keys.evaluation
        return next(
            (t for t, task in self.tasks.items() if any(each.keys.evaluation == key for each in task.runs)), None
        )

    def _state(self, task: Task, report: Report) -> State:
        results = [self.scheduler.settled.get(run.keys.evaluation) for run in self._concerned(task)]
        if results and all(result is not None and result.state == "diverged" for result in results):
            return "diverged"
        return report.state

    def _followed(self, task: Task) -> list[PlannedRun]:
        """The runs whose curve MLflow gets live; other runs of a shared stage get theirs when they end."""
        return [run for run in self._concerned(task) if run.keys.evaluation not in self.scheduler.settled][
            :RUNS_FOLLOWED
        ]

    def _concerned(self, task: Task) -> list[PlannedRun]:
        """The unfinished and finished runs that need the task: for a shared stage, all runs below it."""
        return self.scheduler.tree.runs_below(task.node.key) if task.trains else list(task.runs)
