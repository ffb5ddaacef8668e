"""When a stopped sweep is over."""

from pathlib import Path

import pytest
from simulated import plan_of, publish_training

from ear.store import Store
from ear.training.history import TrainingRecord
from sweeps.driver import event_handler as handler_module
from sweeps.driver.event_handler import EventHandler
from sweeps.driver.running_driver import RunningDriver
from sweeps.driver.scheduler import Scheduler
from sweeps.driver.sweep_folder import SweepFolder
from sweeps.spec.run_source import Grid
from sweeps.tracking.tracker import Tracker
from sweeps.trial.messages import Report

pytestmark = pytest.mark.usefixtures("database")

SWEEP = """
name: stopped
set: {training.stages: [{steps: 100, learning_rate: 0.001}]}
space: {scoring.alpha: [1.0, 1.5, 1.9]}
"""


def test_a_stop_waits_for_trainings_that_save_and_for_no_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handler_module, "FIRST_REPORT_SECONDS", 0.0)
    plan, store = plan_of(tmp_path, SWEEP), Store(tmp_path)
    work, tracker = Scheduler(Grid(plan.runs), store, retries=0), Tracker(plan.identity, store, tmp_path)
    with RunningDriver(SweepFolder(tmp_path, "stopped")).opened() as driver:
        handler = EventHandler(work, Grid(()), tracker, driver)
        work.start()
        tasks = {trial: handler.next(trial) for trial in ("evaluating", "training", "importing")}
        publish_training(store, tasks["evaluating"].node)  # type: ignore[union-attr]
        for trial in ("evaluating", "training"):
            handler.report(trial, Report("training", 10, [TrainingRecord(10, 1.0, 1.0, 1e-3, 1.0)]))
        assert not handler.at_rest
        handler.stop()
        assert driver.stopping.exists()
        assert not handler.at_rest  # one saves
        handler.report("training", Report("stopped"))
        handler.ended("training")
        assert handler.at_rest
        assert set(handler.tasks) == {"evaluating", "importing"}  # they are not waited for
    work.close()
    tracker.close(complete=False)
