"""Trials that are not to blame: their process runs other code than the driver, could not begin, or lost its Ray."""

from pathlib import Path

import pytest
from simulated import plan_of

from ear.store import Store
from sweeps.conductor import Conductor
from sweeps.session import Session, SweepFolder
from sweeps.source import Grid
from sweeps.task_messages import Order, Report
from sweeps.tracking import Tracker
from sweeps.trainable import StageTrial
from sweeps.work import Work

SWEEP = "name: s\nset: {training.stages: [{steps: 100, learning_rate: 0.001}]}\nspace: {scoring.alpha: [1.0, 1.5]}\n"
BROKEN = """Failure # 1 (occurred at 2026-11-26)
The actor died because of an error raised in its creation task, ray::StageTrial.__init__()
ModuleNotFoundError: No module named 'torch'"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One, since it takes MLflow seconds to make a database."""
    return tmp_path_factory.mktemp("root")


def trial_of(order: str) -> StageTrial:
    """In this process, without Ray."""
    trial: StageTrial = object.__new__(StageTrial)
    trial._begin({"order": order})
    return trial


def test_other_code_makes_nothing_and_stops_the_sweep(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, store = plan_of(root, SWEEP), Store(root)
    work, tracker = Work(Grid(plan.runs), store, retries=5), Tracker(plan.identity, store, root)
    with Session(SweepFolder(root, "s")).opened() as session:
        conductor = Conductor(work, Grid(plan.runs), tracker, session)
        work.start()
        task = conductor.next("trial")
        assert task is not None
        order = Order.of(task, root, root / "log", session.stopping, 1, None).dumps()
        monkeypatch.setattr("ear.code.code_digest", lambda: "another")
        report = Report.from_result(trial_of(order).step())
        assert (report.state, report.fault) == ("failed", "code")
        assert conductor.report("trial", report)
        assert (conductor.stop_reason or "").startswith("The code in ")
        assert "has been changed since, or belongs to another checkout" in (conductor.stop_reason or "")
        assert conductor.next("another trial") is None
    assert not store.published()
    work.close()
    tracker.close(complete=False)


def test_a_process_that_could_not_begin_is_not_called_killed(root: Path) -> None:
    plan, store = plan_of(root, SWEEP), Store(root)
    work, tracker = Work(Grid(plan.runs), store, retries=0), Tracker(plan.identity, store, root)
    folder = SweepFolder(root, "s")
    with Session(folder).opened() as session:
        conductor = Conductor(work, Grid(plan.runs), tracker, session)
        work.start()
        for trial, reason in (("unborn", BROKEN), ("killed", "The actor died: its worker was killed by SIGKILL")):
            assert conductor.next(trial) is not None
            conductor.lost(trial, reason)
            conductor.ended(trial)
        unborn, killed = sorted((failure.last_lines for failure in folder.failures()), key=len, reverse=True)
    assert unborn[-2].startswith("ModuleNotFoundError")
    assert unborn[-1] == "The trial's process could not begin, see above."
    assert "killed, out of memory" in killed[-1]
    work.close()
    tracker.close(complete=False)


def test_a_ray_that_is_lost_is_no_fault_of_its_trials(root: Path) -> None:
    plan, store = plan_of(root, SWEEP), Store(root)
    work, tracker = Work(Grid(plan.runs), store, retries=0), Tracker(plan.identity, store, root)
    with Session(SweepFolder(root, "s")).opened() as session:
        conductor = Conductor(work, Grid(plan.runs), tracker, session)
        work.start()
        tasks = {trial: conductor.next(trial) for trial in ("one", "other")}
        with pytest.warns(UserWarning, match="Ray's process raylet was killed: it is started anew"):
            conductor.cluster_lost("Ray's process raylet was killed", again=True)
        assert conductor.tasks == {}
        assert conductor.stop_reason is None
        assert [conductor.next(trial) for trial in ("third", "fourth")] == list(tasks.values())
        conductor.cluster_lost("Ray's process raylet was killed", again=False)
        assert conductor.stop_reason == "Ray's process raylet was killed, again and again"
        assert not work.settled
    work.close()
    tracker.close(complete=False)
