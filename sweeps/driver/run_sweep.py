"""Carries a plan out: Ray Tune trains and evaluates what the store lacks, MLflow is brought up to the store."""

import itertools
import logging
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from ear.process.code import code_digest
from ear.data import load_dataset
from ear.evaluation import prepare
from ear.process.interrupt import on_interrupt, undisturbed
from ear.store import Store
from ear.store.uses import record_use
from slurm.allocation import Allocation
from sweeps.driver.driver_state import Session, SweepFolder
from sweeps.driver.event_handler import Conductor
from sweeps.driver.progress_table import Board, waiting_for
from sweeps.driver.ray_cluster import ClusterLost, ray_cluster, require_alive
from sweeps.driver.resources import node_share, trials_at_a_time
from sweeps.driver.scheduler import Task, Work
from sweeps.search.run_source import Grid, Source
from sweeps.spec.namesakes import warn_of_namesakes
from sweeps.spec.plan import Plan
from sweeps.tracking.writer import Tracker
from sweeps.trial.messages import Order

PATIENCE = 120.0  # seconds of waiting for others after which a machine is given back, where it can be had again
RAY_RESTARTS = 3  # of a driver whose Ray dies
SECONDS_BETWEEN_LOOKS = 1.0  # at what other drivers do, while there is nothing to do for this one


@dataclass(frozen=True)
class SweepOutcome:
    done: int  # runs that got their result in this call
    reused: int  # runs whose result was there before
    failed: dict[str, str] = field(default_factory=dict)  # run's label -> its traceback
    stopped: str | None = None  # why it ended early
    left: int = 0  # runs that other drivers were still working on
    idle: bool = False  # whether some of them may want this driver later


def run_sweep(plan: Plan, root: Path) -> SweepOutcome:
    """Trains and evaluates what is missing, then leaves MLflow with every run of the plan.

    Raises:
        UserError: the root can't be written, the resources are not there, MLflow can't be opened, or damaged results
            have steered a search.
    """
    code_digest()  # of what this process runs: it may be changed before the first trial is told
    store = Store(root)
    places = trials_at_a_time(plan.sweep)
    source = open_source(plan, root, store)
    with Session(SweepFolder(root, plan.sweep.name)).opened() as session:
        identity = plan.identity
        warn_of_namesakes(identity, store)
        with waiting_for("Opening MLflow"):
            tracker = Tracker(identity, store, root)
        work, idle = Work(source, store, plan.sweep.retries), False
        conductor = Conductor(work, source, tracker, session)
        try:
            work.on_grown = lambda: _record_use(identity.user, work, store)
            work.start()
            to_do = work.ready()  # a search finds here what it has measured again
            known = set(work.settled)
            if to_do or not work.done:
                _prepare(plan, store)
                idle = _carry_out(plan, root, conductor, session, places)
        except BaseException:
            with undisturbed():
                tracker.close(complete=False)
            raise
        finally:
            work.close()
        failed = {
            work.tree.runs[key].label: result.traceback
            for key, result in work.settled.items()
            if result.state == "failed" and key not in known
        }
        complete = work.done and not failed and conductor.stop_reason is None
        with waiting_for("Bringing MLflow up to date"):
            tracker.close(complete=complete)
        source.require_sound()  # said again by every call to come
        left = len(work.tree.runs) - len(work.settled) if conductor.stop_reason is None else 0
        done = len(work.settled) - len(failed) - len(known)
        return SweepOutcome(done, len(known), failed, conductor.stop_reason, left, idle)


def open_source(plan: Plan, root: Path, store: Store) -> Source:
    """Where the plan's runs come from.

    Raises:
        UserError: another search was begun under this name.
    """
    if plan.sweep.search is None:
        return Grid(plan.runs)
    from sweeps.search.search import Search  # imports Optuna

    return Search(plan.sweep, plan.configurations, root, store)


def _record_use(user: str, work: Work, store: Store) -> None:
    """Says which results the sweep needs, those included that are still to be made."""
    keys = {key for run in work.tree.runs.values() for key in (*run.keys.stages, run.keys.evaluation)}
    keys |= {key for run in work.tree.runs.values() for key in (run.keys.reference, run.keys.extractor)}
    record_use(store, user, keys)


def _prepare(plan: Plan, store: Store) -> None:
    """Makes what all trials share, so that no two make it at once."""
    with (
        on_interrupt(leave),
        waiting_for("Preparing the feature extractor and the real images' features (once per dataset)"),
    ):
        runs = plan.runs or (plan.configurations.run({}, 0),)
        for run in {run.keys.reference: run for run in runs}.values():
            prepare(run.config, run.keys, load_dataset(run.config.data), store)


def leave() -> NoReturn:
    """On a signal, while there is nothing that must be saved."""
    raise KeyboardInterrupt


def _carry_out(plan: Plan, root: Path, conductor: Conductor, session: Session, places: int) -> bool:
    """Starts Ray and works until everything is done, is to stop, or is in others' hands.

    Returns:
        Whether it only gave up waiting: what others do may make something ready that wants this driver.
    """
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # what it logs, the board shows and the runner reports
    for restarts_left in reversed(range(RAY_RESTARTS + 1)):
        with ExitStack() as stack:
            try:
                with waiting_for("Starting Ray"):
                    folder = stack.enter_context(ray_cluster(*node_share(plan.sweep, places)))
                conductor.board = stack.enter_context(Board(f"Sweep {plan.sweep.name}", places, conductor.counts))
                stack.enter_context(on_interrupt(conductor.stop))
                return _work_in(folder, plan, root, conductor, session, places)
            except ClusterLost as lost:
                conductor.cluster_lost(str(lost), again=restarts_left > 0)
        if conductor.stopping:
            break
    return False


def _work_in(folder: Path, plan: Plan, root: Path, conductor: Conductor, session: Session, places: int) -> bool:
    """As `_carry_out`, with a cluster that has this folder.

    Raises:
        ClusterLost: it is gone.
    """
    work, rounds, busy = conductor.work, itertools.count(), time.monotonic()
    while not conductor.stopping and (not work.done or work.ready()):
        if work.ready():
            fit(plan, root, conductor, session, places, folder / f"tune{next(rounds)}")
            busy = time.monotonic()
        elif may_leave() and plan.sweep.search is None and work.left_to_others() and session.has_company():
            return False  # a search may still want it, for confirmations; another sweep does not do this one's rest
        elif may_leave() and time.monotonic() - busy > PATIENCE:
            return True
        else:  # another driver works on what is left
            conductor.tick()
            require_alive()
            time.sleep(SECONDS_BETWEEN_LOOKS)
    return False


def may_leave() -> bool:
    """Whether this driver is not to hold its machine while others finish, since it can come again."""
    allocation = Allocation.current()
    return allocation is not None and allocation.may_leave


def fit(plan: Plan, root: Path, conductor: Conductor, session: Session, places: int, folder: Path) -> None:
    """Runs Tune until nothing is ready, or everything has stopped."""
    # Here, since importing Tune reads the environment that the cluster has set.
    from ray import tune

    from sweeps.driver.tune_adapters import AtRest, Listener, Losses, TaskSearcher
    from sweeps.trial.trainable import StageTrial

    resources = plan.sweep.resources

    def order(task: Task) -> str:
        log = session.folder.log(task.node.key)
        watched = None if conductor.confirms(task) else plan.intermediate
        return Order.of(task, root.resolve(), log, session.stopping, resources.processes, watched).dumps()

    tuner = tune.Tuner(
        tune.with_resources(StageTrial, {"cpu": resources.cpus, "gpu": resources.gpus}),
        tune_config=tune.TuneConfig(
            search_alg=TaskSearcher(conductor, places, order),
            num_samples=-1,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: trial.trial_id,  # not from its parameters: an order is long
            trial_name_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name=plan.sweep.name,
            storage_path=str(folder),
            stop=Listener(conductor),
            callbacks=[Losses(conductor)],
            verbose=0,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # the store has its own
            failure_config=tune.FailureConfig(max_failures=0),
        ),
    )
    with suppress(AtRest):
        tuner.fit()
