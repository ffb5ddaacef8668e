"""MLflow as a projection of the store, written by one thread so that the driver never waits for it.

A server that goes away is waited for, and nothing loses its order; where it does not come back, the store has
everything, and the next driver fills MLflow from it.
"""

import queue
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from ear.store import Store
from ear.training import TrainingRecord
from sweeps.mlflow_client import open_client, tracking_errors, tracking_uri
from sweeps.records import SweepIdentity, SweepRecords
from sweeps.runs import PlannedRun

SHORTEST_PAUSE, LONGEST_PAUSE = 0.5, 15.0  # seconds between two tries
TRIES_WHEN_ANSWERING = 3  # of something that fails although MLflow answers
PATIENCE = 30.0  # seconds at the end for a server that is away
SECONDS_BETWEEN_TRIES = 2.0  # to become the one who writes

Job = Callable[[SweepRecords], None]


class Tracker:
    """Takes down what happens to a sweep's runs. Of several drivers of one sweep, one at a time writes."""

    def __init__(self, identity: SweepIdentity, store: Store, root: Path) -> None:
        """
        Raises:
            UserError: MLflow is not installed, can't be reached or opened.
        """
        self._identity = identity
        self._store = store
        self._root = root
        self._client = open_client(root)
        self._records: SweepRecords | None = None
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._give_up = threading.Event()
        self._lock = FileLock(root / identity.name / "mlflow.writer", thread_local=False)
        self._warned = False
        if self._try_to_become_writer():
            with tracking_errors(root):
                self._open()  # here, so that what can't work is said before anything is begun
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    def begin(self, run: PlannedRun, tags: Mapping[str, str]) -> None:
        self._jobs.put(lambda records: records.begin(run, tags))

    def progress(self, run: PlannedRun, points: Sequence[TrainingRecord]) -> None:
        self._jobs.put(lambda records: records.progress(run, points))

    def intermediate(self, run: PlannedRun, step: int, value: float) -> None:
        self._jobs.put(lambda records: records.intermediate(run, step, value))

    def finish(self, run: PlannedRun, tags: Mapping[str, str]) -> None:
        self._jobs.put(lambda records: records.finish(run, tags))

    def prune(self, run: PlannedRun) -> None:
        self._jobs.put(lambda records: records.prune(run))

    def fail(self, run: PlannedRun, traceback: str) -> None:
        self._jobs.put(lambda records: records.fail(run, traceback))

    def close(self, complete: bool, patience: float = PATIENCE) -> bool:
        """Waits until all is written, for as long as MLflow answers and `patience` seconds when it does not.

        Returns:
            Whether it is: False where MLflow stayed out of reach, or another driver of this sweep writes.
        """
        self._jobs.put(lambda records: records.close(complete))
        self._jobs.put(None)
        self._closing = time.monotonic()
        while self._thread.is_alive():
            self._thread.join(0.2)
            if self._stuck_since is not None and time.monotonic() - max(self._stuck_since, self._closing) > patience:
                self._give_up.set()
            if self._records is None and self._others_write:
                self._give_up.set()
        if self._give_up.is_set() and not self._others_write:
            warnings.warn(
                f"MLflow ({tracking_uri(self._root)}) could not be brought up to date. Results are safe in the store; "
                "the same command fills MLflow in when it can be reached.",
                stacklevel=2,
            )
        return not self._give_up.is_set()

    _stuck_since: float | None = None  # since when MLflow has been out of reach
    _others_write = False

    def _work(self) -> None:
        """The thread."""
        try:
            if self._records is None:
                if not self._become_writer():
                    return
                self._keep_trying(self._open)
            while (job := self._jobs.get()) is not None and self._records is not None:
                records, todo = self._records, job
                self._keep_trying(lambda: todo(records))  # noqa: B023 (called within this turn)
                if self._give_up.is_set():
                    return
        finally:
            self._lock.release()

    def _open(self) -> None:
        self._records = SweepRecords(self._identity, self._store, self._root, self._client)

    def _become_writer(self) -> bool:
        """Waits for as long as another driver of this sweep writes; it sees the same results in the store."""
        while not self._try_to_become_writer():
            if self._give_up.wait(SECONDS_BETWEEN_TRIES):
                return False
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

    def _keep_trying(self, action: Callable[[], None]) -> None:
        """Until it succeeds, or fails although MLflow answers, or it is time to give up."""
        pause, tries = SHORTEST_PAUSE, 0
        while not self._give_up.is_set():
            try:
                action()
                self._stuck_since = None
                return
            except Exception as error:
                tries += 1
                answers = self._answers()
                if answers and tries >= TRIES_WHEN_ANSWERING:
                    self._stuck_since = None
                    self._warn(error)
                    return
                if not answers:
                    self._stuck_since = self._stuck_since or time.monotonic()
            self._give_up.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _answers(self) -> bool:
        try:
            self._client.search_experiments(max_results=1)
        except Exception:
            return False
        return True

    def _warn(self, error: Exception) -> None:
        if not self._warned:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            warnings.warn(f"MLflow refused a record ({reason}); the others go on.", stacklevel=2)
            self._warned = True
