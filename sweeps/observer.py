"""The driver's ear on Tune: what trials report goes to the board and to MLflow."""

from typing import Any

from ray.tune import Callback, Stopper

from ear.store import Store
from ear.training import TrainingRecord
from sweeps.board import Board
from sweeps.plan import Trial
from sweeps.runs import is_done
from sweeps.tracking import Tracker


class Observer(Callback):
    """Tune calls it in the driver's process, between two events."""

    def __init__(self, trials: dict[str, Trial], board: Board, tracker: Tracker, store: Store) -> None:
        """`trials` by training key."""
        self.failed: dict[str, str] = {}  # a trial's label -> its traceback
        self._trials = trials
        self._board = board
        self._tracker = tracker
        self._store = store

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its callbacks into its own snapshot, which nobody reads: the store is what a rerun starts from.
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        ours = self._of(trial)
        self._board.update(ours.key, "training")
        for run in ours.runs:
            self._tracker.begin(run)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        ours = self._of(trial)
        records = [TrainingRecord(**record) for record in result["records"]]
        loss = records[-1].loss if records else None
        self._board.update(ours.key, result["state"], result["steps"], loss)
        if result["state"] == "failed":
            self._fail(ours, result["traceback"])
            return
        for run in ours.runs:
            self._tracker.progress(run, records)
            if is_done(run, self._store):
                self._tracker.finish(run)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        # Exceptions are caught inside the trial and reported; what arrives here is the loss of its process.
        ours = self._of(trial)
        self._board.update(ours.key, "failed")
        self._fail(ours, "The trial's process died: killed, out of memory, or crashed in native code.")

    def _fail(self, trial: Trial, traceback: str) -> None:
        self.failed[trial.label] = traceback
        for run in trial.runs:
            self._tracker.fail(run, traceback)

    def _of(self, trial: Any) -> Trial:
        return self._trials[trial.config["trial"]["key"]]


class StopOnRequest(Stopper):
    """Ends the experiment as soon as it is asked to; trials get the time to save."""

    def __init__(self) -> None:
        self.asked = False

    def ask(self) -> None:
        self.asked = True

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return self.asked

    def stop_all(self) -> bool:
        return self.asked
