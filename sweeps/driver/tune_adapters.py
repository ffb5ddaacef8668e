"""Adapters between Ray Tune and the event handler: what to start next, and where trials' reports go."""

from collections.abc import Callable
from typing import Any

from ray.tune import Callback, Stopper
from ray.tune.search import Searcher

from sweeps.driver.event_handler import EventHandler
from sweeps.driver.ray_cluster import require_alive
from sweeps.driver.scheduler import Task
from sweeps.trial.messages import Report


class SweepStopped(BaseException):
    """Raised when a stopping sweep has nothing left to save.

    Not an Exception: after one, Tune would wait for processes that are still starting.
    """


class TaskSearcher(Searcher):
    """Suggests a task when a slot is free and the task's parent stage is in the store.

    If a searcher suggests nothing while nothing runs, Tune waits for minutes and ignores Ctrl-C. So this one reports
    that it is finished, and its caller starts Tune again when a task is ready.
    """

    def __init__(self, handler: EventHandler, slots: int, request: Callable[[Task], str]) -> None:
        """Creates a searcher that runs up to `slots` tasks; `request` encodes a task for its trial."""
        super().__init__()
        self._handler = handler
        self._slots = slots
        self._request = request

    def suggest(self, trial_id: str) -> Any:
        """Returns the configuration of a new trial, None to be asked again later, or FINISHED."""
        if len(self._handler.tasks) >= self._slots:
            return None
        task = self._handler.next(trial_id)
        if task is None:
            return None if self._handler.tasks or self._handler.stopping else Searcher.FINISHED
        return {"request": self._request(task)}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tells the handler that a trial ended; `LostTrials` handles those that ended by an error."""
        if not error:
            self._handler.ended(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Does nothing: a rerun starts from the store, not from Tune's snapshot."""

    def restore(self, checkpoint_path: str) -> None:
        """Never called; see `save`."""
        raise NotImplementedError("a sweep resumes from its store")

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles it into its snapshot, which nothing reads


class LostTrials(Callback):
    """Tells the handler about trials whose process died.

    A trial catches its own exceptions and reports them, so a Tune error always means that the process is lost.
    """

    def __init__(self, handler: EventHandler) -> None:
        self._handler = handler

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Reports the lost trial, unless Ray itself is lost.

        Raises:
            ClusterLost: one of Ray's own processes is gone.
        """
        require_alive()
        self._handler.lost(trial.trial_id, str(trial.get_error() or ""))
        self._handler.ended(trial.trial_id)

    def __getstate__(self) -> dict[str, Any]:
        return {}


class ReportListener(Stopper):
    """Passes trials' reports to the handler.

    A stopper, because of all of Tune's hooks only stoppers get every report, before anything else and exactly once.
    """

    def __init__(self, handler: EventHandler) -> None:
        self._handler = handler

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Passes on a report; returns whether the trial must stop."""
        return self._handler.report(trial_id, Report.from_result(result))

    def stop_all(self) -> bool:
        """Ticks the handler; always False. Tune calls it between any two events, ten times a second.

        Raises:
            SweepStopped: the sweep is stopping and has nothing left to save.
            ClusterLost: one of Ray's own processes is gone.
        """
        require_alive()
        self._handler.tick()
        if self._handler.at_rest:
            raise SweepStopped
        return False

    def __getstate__(self) -> dict[str, Any]:
        return {}
