"""MLflow as a projection of the store, written by one thread so that the driver never waits for it.

A server that goes away, or a database that somebody locks, is waited for, and nothing loses its order; where it does
not come back, the store has everything, and the next driver fills MLflow from it.
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

SHORTEST_PAUSE, LONGEST_PAUSE = 0.5, 15.0  # seconds between two tries
TRIES_WHEN_ANSWERING = 3  # of something that fails although MLflow answers
MAX_IDLE_SECONDS = 30.0  # seconds at the end in which nothing at all gets written
PATIENCE_WITH_LOCKS = 150.0  # likewise, of a database that another program has locked: it will be done some time
RETRY_SECONDS = 2.0  # to become the one who writes


@dataclass(frozen=True)
class Job:
    write: Callable[[MlflowRuns], None]
    key: str | None = None  # of the run that it concerns


class Tracker:
    """Takes down what happens to a sweep's runs. Of several drivers of one sweep, one at a time writes."""

    def __init__(self, identity: SweepIdentity, store: Store, root: Path) -> None:
        """
        Raises:
            UserError: MLflow is not installed, can't be reached or opened. One that is locked can be later.
        """
        self._identity = identity
        self._store = store
        self._root = root
        self._client: Any = None
        self._records: MlflowRuns | None = None
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        # Another sweep that has the same name writes for itself.
        self._lock = FileLock(root / identity.name / f"mlflow-{identity.digest[:8]}.writer", thread_local=False)
        self._closing = threading.Event()
        self._give_up = threading.Event()
        self._others_write = False
        self._all_written = False
        self._moved = time.monotonic()  # when something was written last
        self._locked = False  # whether what was tried last met a lock
        self._warned = False
        try:
            self._client = open_client(root, sweep=identity.name)
            if self._try_to_become_writer():
                with tracking_errors(root):
                    self._open()  # here, so that what can't work is said before anything is begun
        except DatabaseLockedError as error:
            warnings.warn(f"{error} The sweep goes on meanwhile, and MLflow is brought up to date then.", stacklevel=2)
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    def begin(self, run: PlannedRun, tags: Mapping[str, str]) -> None:
        self._put(run, lambda records: records.begin(run, tags))

    def progress(self, run: PlannedRun, points: Sequence[TrainingRecord]) -> None:
        at = now()
        self._put(run, lambda records: records.progress(run, points, at))

    def intermediate(self, run: PlannedRun, step: int, value: float) -> None:
        at = now()
        self._put(run, lambda records: records.intermediate(run, step, value, at))

    def finish(self, run: PlannedRun, tags: Mapping[str, str]) -> None:
        if self._records is None or not self._records.is_over(run.keys.evaluation):
            # What reads results imports torch: by the caller, who is about to do so as well. Two threads that import
            # modules with circles among them, as torch's, can meet half-made ones.
            import ear.run  # noqa: F401
        at = now()
        self._put(run, lambda records: records.finish(run, tags, at))

    def prune(self, run: PlannedRun, tags: Mapping[str, str]) -> None:
        self._put(run, lambda records: records.prune(run, tags))

    def fail(self, run: PlannedRun, tags: Mapping[str, str], traceback: str) -> None:
        self._put(run, lambda records: records.fail(run, tags, traceback))

    def _put(self, run: PlannedRun, write: Callable[[MlflowRuns], None]) -> None:
        self._jobs.put(Job(write, run.keys.evaluation))

    def close(self, complete: bool, patience: float = MAX_IDLE_SECONDS) -> bool:
        """Waits until all is written; not for longer than `patience` seconds in which nothing is.

        Returns:
            Whether it is: False where MLflow stayed out of reach, or another driver of this sweep writes.
        """
        self._jobs.put(Job(lambda records: records.close(complete)))
        self._jobs.put(None)
        closing = time.monotonic()
        self._closing.set()
        while self._thread.is_alive() and not self._give_up.is_set():
            self._thread.join(0.2)
            if time.monotonic() - max(self._moved, closing) > (PATIENCE_WITH_LOCKS if self._locked else patience):
                self._give_up.set()  # the thread may hang in a call that MLflow does not answer: not waited for
        if self._give_up.is_set() and not self._all_written:
            warnings.warn(
                f"MLflow ({shown(tracking_uri(self._root))}) could not be brought up to date. Results are safe in the "
                "store; the same command fills MLflow in when it can be reached.",
                stacklevel=2,
            )
        return self._all_written

    def _work(self) -> None:
        """The thread."""
        try:
            if self._records is None and not (self._become_writer() and self._keep_trying(self._open)):
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
        self._records = MlflowRuns(self._identity, self._store, self._root, self._client)

    def _write(self, job: Job) -> None:
        records = self._records
        assert records is not None

        def again() -> None:
            if job.key is not None:
                records.look_up(job.key)
            job.write(records)

        self._keep_trying(lambda: job.write(records), again)

    def _become_writer(self) -> bool:
        """Waits for as long as another driver of this sweep writes; it sees the same results in the store."""
        while not self._try_to_become_writer():
            if self._closing.is_set():
                return False
            self._closing.wait(RETRY_SECONDS)  # when it is over, one last try
        return True

    def _try_to_become_writer(self) -> bool:
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            self._others_write = True
            return False
        except OSError:
            pass  # a folder without locks: the writing itself is safe
        self._others_write = False
        return True

    def _keep_trying(self, first: Callable[[], None], again: Callable[[], None] | None = None) -> bool:
        """Until it succeeds, or fails although MLflow takes other things, or it is time to give up."""
        action, pause, refusals = first, SHORTEST_PAUSE, 0
        while not self._give_up.is_set():
            try:
                action()
            except Exception as error:
                self._locked = is_locked(error)
                if self._is_at_fault(error):
                    refusals += 1
                    if refusals == TRIES_WHEN_ANSWERING:
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
        """Whether what failed would fail with an MLflow that is well, too; asks it to write, since reading may still
        work where the database is locked or the disk full."""
        if is_busy(error):
            return False
        if self._client is None:
            return True
        try:
            if self._records is None:
                self._client.search_experiments(max_results=1)
            else:
                self._records.touch()
        except Exception as another:
            return refuses(another)
        return True

    def _warn(self, error: Exception) -> None:
        if not self._warned:
            warnings.warn(f"MLflow refused a record ({in_a_line(error)}); the others go on.", stacklevel=2)
            self._warned = True


def now() -> int:
    """In ms, as MLflow counts."""
    return int(time.time() * 1000)
