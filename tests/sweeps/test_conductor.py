"""When a stopped sweep is over."""

from pathlib import Path

import pytest
from simulated import plan_of, publish_training

from ear.store import Store
from ear.training import TrainingRecord
from sweeps.driver import event_handler as conductor_module
from sweeps.driver.driver_state import Session, SweepFolder
from sweeps.driver.event_handler import Conductor
from sweeps.driver.scheduler import Work
from sweeps.search.run_source import Grid
from sweeps.tracking.writer import Tracker
from sweeps.trial.messages import Report

SWEEP = """
name: stopped
set: {training.stages: [{steps: 100, learning_rate: 0.001}]}
space: {scoring.alpha: [1.0, 1.5, 1.9]}
"""


def test_a_stop_waits_for_trainings_that_save_and_for_no_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conductor_module, "SECONDS_FOR_THE_NEW", 0.0)
    plan, store = plan_of(tmp_path, SWEEP), Store(tmp_path)
    work, tracker = Work(Grid(plan.runs), store, retries=0), Tracker(plan.identity, store, tmp_path)
    with Session(SweepFolder(tmp_path, "stopped")).opened() as session:
        conductor = Conductor(work, Grid(()), tracker, session)
        work.start()
        tasks = {trial: conductor.next(trial) for trial in ("evaluating", "training", "importing")}
        publish_training(store, tasks["evaluating"].node)  # type: ignore[union-attr]
        for trial in ("evaluating", "training"):
            conductor.report(trial, Report("training", 10, [TrainingRecord(10, 1.0, 1.0, 1e-3, 1.0)]))
        assert not conductor.at_rest
        conductor.stop()
        assert session.stopping.exists()
        assert not conductor.at_rest  # one saves
        conductor.report("training", Report("stopped"))
        conductor.ended("training")
        assert conductor.at_rest
        assert set(conductor.tasks) == {"evaluating", "importing"}  # they are not waited for
    work.close()
    tracker.close(complete=False)
