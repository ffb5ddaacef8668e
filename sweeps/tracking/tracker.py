"""Writes a sweep's events to MLflow in a thread of its own, so the driver never waits for MLflow.

If the server is unreachable or the database locked, the thread waits and keeps the order of events. If MLflow does not
come back, nothing is lost: the store has all results, and the next driver fills MLflow from it.
"""

import queue
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ear.store import Store
from ear.terminal.credentials import shown
from ear.training.history import TrainingRecord
from sweeps.spec.identity import SweepIdentity
from sweeps.spec.runs import PlannedRun
from sweeps.tracking.mlflow_client import (
    DatabaseLockedError,
    in_a_line,
    is_busy,
    is_locked,
    open_client,
    refuses,
    tracking_errors,
    tracking_uri,
)
from sweeps.tracking.mlflow_runs import MlflowRuns
from sweeps.tracking.summary import SweepSummary

SHORTEST_PAUSE, LONGEST_PAUSE = 0.5, 15.0  # seconds between two tries
MAX_REJECTIONS = 3  # tries of a write that fails although MLflow accepts others
MAX_IDLE_SECONDS = 30.0  # at the end, without a successful write, before giving up
MAX_LOCKED_SECONDS = 150.0  # likewise while another program locks the database, since locks end
RETRY_SECONDS = 2.0  # between two tries to become the writer


@dataclass(frozen=True)
class Job:
    """One write to MLflow."""

    write: Callable[[MlflowRuns], None]
    key: str | None = None  # evaluation key of the run that it concerns


class Tracker:
    """Records what happens to a sweep's runs in MLflow. Of several drivers of one sweep, only one writes at a time.

    The methods queue a write and return at once.
    """

    def __init__(self, identity: SweepIdentity, store: Store, root: Path) -> None:
        """Opens MLflow and starts the writing thread. A locked database only causes a warning.

        Raises:
            UserError: MLflow is not installed, or can't be reached or opened.
        """
        self._identity = identity
        self._store = store
        self._root = root
        self._client: Any = None
        self._runs: MlflowRuns | None = None
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        # By digest: another sweep of the same name has a writer of its own.
        self._lock = FileLock(root / identity.name / f"mlflow-{identity.digest[:8]}.writer", thread_local=False)
        self._closing = threading.Event()
        self._give_up = threading.Event()
        self._others_write = False
        self._all_written = False
        self._moved = time.monotonic()  # time of the last write
        self._locked = False  # whether the last try found the database locked
        self._warned = False
        try:
            self._client = open_client(root, sweep=identity.name)
            if self._try_to_become_writer():
                with tracking_errors(root):
                    self._open()  # opened here, so that errors are raised before the sweep starts
        except DatabaseLockedError as error:
            warnings.warn(f"{error} The sweep runs meanwhile; MLflow is updated once the lock is gone.", stacklevel=2)
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    @property
    def experiment(self) -> str | None:
        """MLflow's id of the sweep's experiment; None while another driver writes, or the database is locked."""
        return self._runs.experiment if self._runs is not None else None

    def begin(self, run: PlannedRun, tags: Mapping[str, str]) -> None:
        """Records that the run has started."""
        self._put(run, lambda runs: runs.begin(run, tags))

    def progress(self, run: PlannedRun, records: Sequence[TrainingRecord]) -> None:
        """Records new points of the training curve."""
        at = now()
        self._put(run, lambda runs: runs.progress(run, records, at))

    def intermediate(self, run: PlannedRun, step: int, value: float) -> None:
        """Records an intermediate value of early stopping."""
        at = now()
        self._put(run, lambda runs: runs.intermediate(run, step, value, at))

    def finish(self, run: PlannedRun, tags: Mapping[str, str]) -> None:
        """Records the run's results from the store."""
        if self._runs is None or not self._runs.has_ended(run.keys.evaluation):
            # Reading results imports torch. The caller's thread does it, since it imports torch soon as well: if two
            # threads import modules with circular imports, such as torch's, each can see half-initialized ones.
            import ear.run  # noqa: F401
        at = now()
        self._put(run, lambda runs: runs.finish(run, tags, at))

    def prune(self, run: PlannedRun, tags: Mapping[str, str]) -> None:
        """Records that the run was stopped early."""
        self._put(run, lambda runs: runs.prune(run, tags))

    def fail(self, run: PlannedRun, tags: Mapping[str, str], traceback: str) -> None:
        """Records that the run failed."""
        self._put(run, lambda runs: runs.fail(run, tags, traceback))

    def summarise(self, summary: SweepSummary) -> None:
        """Records the summary of the sweep."""
        at = now()
        self._jobs.put(Job(lambda runs: runs.summarise(summary, at)))

    def _put(self, run: PlannedRun, write: Callable[[MlflowRuns], None]) -> None:
        self._jobs.put(Job(write, run.keys.evaluation))

    def close(self, complete: bool, patience: float = MAX_IDLE_SECONDS) -> bool:
        """Waits until everything is written; gives up after `patience` seconds without a successful write.

        Returns:
            Whether everything is written. False if MLflow stayed unreachable or another driver of this sweep writes.
        """
        self._jobs.put(Job(lambda runs: runs.close(complete)))
        self._jobs.put(None)
        closing = time.monotonic()
        self._closing.set()
        while self._thread.is_alive() and not self._give_up.is_set():
            self._thread.join(0.2)
            if time.monotonic() - max(self._moved, closing) > (MAX_LOCKED_SECONDS if self._locked else patience):
                self._give_up.set()  # not joined: the thread may hang in a call to MLflow
        if self._give_up.is_set() and not self._all_written:
            warnings.warn(
                f"MLflow ({shown(tracking_uri(self._root))}) could not be updated. Results are safe in the "
                "store; run the same command again when MLflow is reachable.",
                stacklevel=2,
            )
        return self._all_written

    def _work(self) -> None:
        """Writes the queued jobs; the body of the thread."""
        try:
            if self._runs is None and not (self._become_writer() and self._keep_trying(self._open)):
                if not self._others_write:
                    self._give_up.set()
                return
            while (job := self._jobs.get()) is not None:
                self._write(job)
                if self._give_up.is_set():
                    return
            self._all_written = True
        finally:
            self._lock.release(force=True)

    def _open(self) -> None:
        if self._client is None:
            self._client = open_client(self._root, sweep=self._identity.name)
        self._runs = MlflowRuns(self._identity, self._store, self._root, self._client)

    def _write(self, job: Job) -> None:
        runs = self._runs
        assert runs is not None

        def again() -> None:
            if job.key is not None:
                runs.look_up(job.key)
            job.write(runs)

        self._keep_trying(lambda: job.write(runs), again)

    def _become_writer(self) -> bool:
        """Waits while another driver of this sweep is the writer; it records the same results from the store."""
        while not self._try_to_become_writer():
            if self._closing.is_set():
                return False
            self._closing.wait(RETRY_SECONDS)  # one last try when the sweep is over
        return True

    def _try_to_become_writer(self) -> bool:
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            self._others_write = True
            return False
        except OSError:
            pass  # a file system without locks: concurrent writing is still safe
        self._others_write = False
        return True

    def _keep_trying(self, first: Callable[[], None], again: Callable[[], None] | None = None) -> bool:
        """Retries until a write succeeds, fails repeatedly although MLflow accepts other writes, or it must give up."""
        action, pause, refusals = first, SHORTEST_PAUSE, 0
        while not self._give_up.is_set():
            try:
                action()
            except Exception as error:
                self._locked = is_locked(error)
                if self._is_at_fault(error):
                    refusals += 1
                    if refusals == MAX_REJECTIONS:
                        self._moved = time.monotonic()
                        self._warn(error)
                        return False
                action = again or first
            else:
                self._moved = time.monotonic()
                return True
            self._give_up.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        return False

    def _is_at_fault(self, error: Exception) -> bool:
        """Whether the write itself is at fault rather than MLflow. Tests this by another write, since reads may work
        even if the database is locked or the disk full."""
        if is_busy(error):
            return False
        if self._client is None:
            return True
        try:
            if self._runs is None:
                self._client.search_experiments(max_results=1)
            else:
                self._runs.touch()
        except Exception as another:
            return refuses(another)
        return True

    def _warn(self, error: Exception) -> None:
        if not self._warned:
            warnings.warn(f"MLflow rejected a write ({in_a_line(error)}); other writes continue.", stacklevel=2)
            self._warned = True


def now() -> int:
    """Returns the time in ms since 1970, as MLflow uses it."""
    return int(time.time() * 1000)
