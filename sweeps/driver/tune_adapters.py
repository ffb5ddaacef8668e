"""Ray Tune's view of a sweep: what to start next, and whom to tell what trials report."""

from collections.abc import Callable
from typing import Any

from ray.tune import Callback, Stopper
from ray.tune.search import Searcher

from sweeps.driver.event_handler import EventHandler
from sweeps.driver.ray_cluster import require_alive
from sweeps.driver.scheduler import Task
from sweeps.trial.messages import Report


class SweepStopped(BaseException):
    """Everything has stopped. Not an Exception: after one, Tune would wait for processes that are still starting."""


class TaskSearcher(Searcher):
    """Suggests a task only when a place is free for it and its parent stage is in the store.

    A searcher that suggests nothing while nothing runs makes Tune wait for minutes, deaf to Ctrl-C; so this one is
    then finished, and its caller starts Tune again when there is something to do.
    """

    def __init__(self, handler: EventHandler, slots: int, request: Callable[[Task], str]) -> None:
        """`request` puts a task into the words that a trial gets."""
        super().__init__()
        self._handler = handler
        self._slots = slots
        self._request = request

    def suggest(self, trial_id: str) -> Any:
        if len(self._handler.tasks) >= self._slots:
            return None
        task = self._handler.next(trial_id)
        if task is None:
            return None if self._handler.tasks or self._handler.stopping else Searcher.FINISHED
        return {"request": self._request(task)}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        if not error:
            self._handler.ended(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the store is what a rerun starts from, not Tune's snapshot."""

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("a sweep goes on from its store")

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles it into its snapshot, which nobody reads


class LostTrials(Callback):
    """Exceptions are caught inside a trial and reported; what Tune calls an error is the loss of its process."""

    def __init__(self, handler: EventHandler) -> None:
        self._handler = handler

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        require_alive()  # else it is not the trial's fault
        self._handler.lost(trial.trial_id, str(trial.get_error() or ""))
        self._handler.ended(trial.trial_id)

    def __getstate__(self) -> dict[str, Any]:
        return {}


class ReportListener(Stopper):
    """Passes on what trials report. Of all that Tune calls, stoppers alone hear every report, first and just once."""

    def __init__(self, handler: EventHandler) -> None:
        self._handler = handler

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return self._handler.report(trial_id, Report.from_result(result))

    def stop_all(self) -> bool:
        require_alive()
        self._handler.tick()  # Tune asks between any two events, ten times a second
        if self._handler.at_rest:
            raise SweepStopped
        return False

    def __getstate__(self) -> dict[str, Any]:
        return {}
