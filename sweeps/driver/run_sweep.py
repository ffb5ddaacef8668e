"""Runs a plan: trains and evaluates on Ray Tune what the store lacks, and brings MLflow up to date with the store."""

import itertools
import logging
import time
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from ear.errors import UserError
from ear.process.code import code_digest
from ear.process.interrupt import on_interrupt, undisturbed
from ear.store import Store
from ear.store.uses import record_use
from ear.terminal.waiting import waiting_for
from slurm.allocation import Allocation
from sweeps.driver.event_handler import EventHandler
from sweeps.driver.progress_table import ProgressTable
from sweeps.driver.ray_cluster import ClusterLost, ray_cluster, require_alive
from sweeps.driver.resources import node_share, trials_at_a_time
from sweeps.driver.running_driver import RunningDriver
from sweeps.driver.scheduler import Scheduler, Task
from sweeps.driver.shared_results import shared_results
from sweeps.driver.sweep_folder import SweepFolder
from sweeps.driver.task_request import task_request
from sweeps.spec.namesakes import warn_of_namesakes
from sweeps.spec.plan import Plan
from sweeps.spec.run_source import Grid, RunSource
from sweeps.spec.runs import PlannedRun, is_done
from sweeps.spec.sweep_record import RecordedRun, SweepRecord
from sweeps.tracking.summary import summarise
from sweeps.tracking.tracker import Tracker

MAX_IDLE_SECONDS = 120.0  # wait for other drivers before the job gives its machine back, if it can be requeued
RAY_RESTARTS = 3  # restarts of Ray in one driver
POLL_SECONDS = 1.0  # between checks of the store while other drivers work


@dataclass(frozen=True)
class SweepOutcome:
    """What one call of `run_sweep` achieved."""

    done: int  # runs that got their result in this call
    reused: int  # runs whose result already existed
    failed: dict[str, str] = field(default_factory=dict)  # run's label -> its traceback
    stopped: str | None = None  # why the sweep stopped early; None if it did not
    left: int = 0  # unfinished runs that other drivers work on
    idle: bool = False  # whether those runs may need this driver later


def run_sweep(plan: Plan, root: Path) -> SweepOutcome:
    """Trains and evaluates what the store lacks, and records every run of the plan in MLflow.

    Raises:
        UserError: the root can't be written, no trial fits the resources, MLflow can't be opened, or damaged results
            have influenced a search.
    """
    code_digest()  # cached now: the sources may change on disk before the first trial gets the digest
    store = Store(root)
    slots = trials_at_a_time(plan.sweep)
    source = open_source(plan, root, store)
    with RunningDriver(SweepFolder(root, plan.sweep.name)).opened() as driver:
        identity = plan.identity
        warn_of_namesakes(identity, store)
        with waiting_for("Opening MLflow"):
            tracker = Tracker(identity, store, root)
        scheduler, idle = Scheduler(source, store, plan.sweep.retries), False
        handler = EventHandler(scheduler, source, tracker, driver)
        try:
            record = SweepRecord.begun(identity, tracker.experiment)

            def grown() -> None:
                # With --only, the grid has more runs than the scheduler.
                runs = [*scheduler.tree.runs.values(), *plan.runs]
                replace(record, runs=[RecordedRun.of(run, source.tags(run)) for run in runs]).write(root)
                _record_use(identity.user, runs, store)

            scheduler.on_grown = grown
            scheduler.start()
            to_do = scheduler.ready()  # a search picks up its finished confirmation runs here
            known = set(scheduler.settled)
            if to_do or not scheduler.done:
                with shared_results(plan, root, store):
                    idle = _run_on_ray(plan, root, handler, driver, slots)
        except BaseException:
            with undisturbed():
                tracker.close(complete=False)
            raise
        finally:
            scheduler.close()
        failed = {
            scheduler.tree.runs[key].label: result.traceback
            for key, result in scheduler.settled.items()
            if result.state == "failed" and key not in known
        }
        whole = len(scheduler.tree.runs) >= len(plan.runs)
        complete = scheduler.done and whole and not failed and handler.stop_reason is None
        replace(record, complete=complete).write(root)
        with waiting_for("Bringing MLflow up to date"):
            with suppress(UserError):  # a damaged result, of which those tell who use it
                tracker.summarise(summarise(plan, store))
            tracker.close(complete=complete)
        source.require_sound()  # every later call repeats this error
        left = len(scheduler.tree.runs) - len(scheduler.settled) if handler.stop_reason is None else 0
        done = len(scheduler.settled) - len(failed) - len(known)
        return SweepOutcome(done, len(known), failed, handler.stop_reason, left, idle)


def open_source(plan: Plan, root: Path, store: Store) -> RunSource:
    """Returns the source of the plan's runs: a grid or a search.

    Raises:
        UserError: the study of this name belongs to another search.
    """
    if plan.sweep.search is None:
        if plan.is_partial:  # what is done already stays in the tables
            asked = {run.keys.evaluation for run in plan.asked}
            return Grid([run for run in plan.runs if run.keys.evaluation in asked or is_done(run, store)])
        return Grid(plan.runs)
    from sweeps.search.search import Search  # imports Optuna

    return Search(plan.sweep, plan.configurations, root, store)


def _record_use(user: str, runs: Iterable[PlannedRun], store: Store) -> None:
    """Records which results the sweep needs, including those not computed yet."""
    keys: set[str] = set()
    for run in runs:
        keys |= {*run.keys.stages, run.keys.evaluation, run.keys.reference, run.keys.extractor}
    record_use(store, user, keys)


def _run_on_ray(plan: Plan, root: Path, handler: EventHandler, driver: RunningDriver, slots: int) -> bool:
    """Starts Ray and runs tasks until all is done, a stop is requested, or only other drivers have work left.

    Returns:
        Whether it stopped waiting for other drivers although their results may make a task ready for this one.
    """
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # the progress table and our reports replace its log
    for restarts_left in reversed(range(RAY_RESTARTS + 1)):
        with ExitStack() as stack:
            try:
                with waiting_for("Starting Ray"):
                    folder = stack.enter_context(ray_cluster(*node_share(plan.sweep, slots)))
                table = ProgressTable(f"Sweep {plan.sweep.name}", slots, handler.counts, plan.sweep.objectives)
                handler.table = stack.enter_context(table)
                stack.enter_context(on_interrupt(handler.stop))
                return _run_rounds(folder, plan, root, handler, driver, slots)
            except ClusterLost as lost:
                handler.cluster_lost(str(lost), again=restarts_left > 0)
        if handler.stopping:
            break
    return False


def _run_rounds(folder: Path, plan: Plan, root: Path, handler: EventHandler, driver: RunningDriver, slots: int) -> bool:
    """As `_run_on_ray`, on a running cluster with this folder.

    Raises:
        ClusterLost: the cluster is gone.
    """
    scheduler, rounds, busy = handler.scheduler, itertools.count(), time.monotonic()
    while not handler.stopping and (not scheduler.done or scheduler.ready()):
        if scheduler.ready():
            fit(plan, root, handler, driver, slots, folder / f"tune{next(rounds)}")
            busy = time.monotonic()
        elif may_leave() and plan.sweep.search is None and scheduler.left_to_others() and driver.others_running():
            return False  # a search would stay, since confirmation runs may follow
        elif may_leave() and time.monotonic() - busy > MAX_IDLE_SECONDS:
            return True
        else:  # other drivers work on what is left
            handler.tick()
            require_alive()
            time.sleep(POLL_SECONDS)
    return False


def may_leave() -> bool:
    """Whether this driver should give its machine back while other drivers finish; its job can be requeued."""
    allocation = Allocation.current()
    return allocation is not None and allocation.may_leave


def fit(plan: Plan, root: Path, handler: EventHandler, driver: RunningDriver, slots: int, folder: Path) -> None:
    """Runs Tune until nothing is ready or the sweep has stopped."""
    # Imported here: Tune reads on import the environment that the cluster has set.
    from ray import tune

    from sweeps.driver.tune_adapters import LostTrials, ReportListener, SweepStopped, TaskSearcher
    from sweeps.trial.trainable import StageTrial

    resources = plan.sweep.resources

    def request(task: Task) -> str:
        log = driver.folder.log(task.node.key)
        watched = None if handler.confirms(task) else plan.intermediate
        return task_request(task, root.resolve(), log, driver.stopping, resources.processes, watched).dumps()

    tuner = tune.Tuner(
        tune.with_resources(StageTrial, {"cpu": resources.cpus, "gpu": resources.gpus}),
        tune_config=tune.TuneConfig(
            search_alg=TaskSearcher(handler, slots, request),
            num_samples=-1,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: trial.trial_id,  # the default includes the parameters: a long request
            trial_name_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name=plan.sweep.name,
            storage_path=str(folder),
            stop=ReportListener(handler),
            callbacks=[LostTrials(handler)],
            verbose=0,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # the store has its own checkpoints
            failure_config=tune.FailureConfig(max_failures=0),
        ),
    )
    with suppress(SweepStopped):
        tuner.fit()
