"""Trials that are not to blame: their process runs other code than the driver, could not start, or lost its Ray."""

import errno
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from simulated import plan_of

from ear.store import Store
from sweeps.driver import run_sweep as runner
from sweeps.driver.event_handler import NODES_LOST, EventHandler
from sweeps.driver.ray_cluster import ClusterLost
from sweeps.driver.running_driver import RunningDriver
from sweeps.driver.scheduler import Scheduler
from sweeps.driver.sweep_folder import SweepFolder
from sweeps.driver.task_request import task_request
from sweeps.spec.plan import Plan
from sweeps.spec.run_source import Grid
from sweeps.tracking.tracker import Tracker
from sweeps.trial.helper_processes import TrialProcesses
from sweeps.trial.messages import Report
from sweeps.trial.trainable import StageTrial, fault_of

SWEEP = "name: s\nset: {training.stages: [{steps: 100, learning_rate: 0.001}]}\nspace: {scoring.alpha: [1.0, 1.5]}\n"
BROKEN = """Failure # 1 (occurred at 2026-11-26)
The actor died because of an error raised in its creation task, ray::StageTrial.__init__()
ModuleNotFoundError: No module named 'torch'"""


@pytest.fixture(scope="module")
def root(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("root")
    shutil.copy(empty_database, root / "mlflow.db")
    return root


@dataclass(frozen=True)
class Driver:
    """Of SWEEP, without Ray."""

    plan: Plan
    scheduler: Scheduler
    state: RunningDriver
    handler: EventHandler


@contextmanager
def begun(root: Path, retries: int = 0) -> Iterator[Driver]:
    plan, store = plan_of(root, SWEEP), Store(root)
    scheduler, tracker = Scheduler(Grid(plan.runs), store, retries), Tracker(plan.identity, store, root)
    with RunningDriver(SweepFolder(root, "s")).opened() as driver:
        handler = EventHandler(scheduler, Grid(plan.runs), tracker, driver)
        scheduler.start()
        yield Driver(plan, scheduler, driver, handler)
    scheduler.close()
    tracker.close(complete=False)


def trial_of(request: str) -> StageTrial:
    """In this process, without Ray."""
    trial: StageTrial = object.__new__(StageTrial)
    trial._begin({"request": request})
    return trial


def test_other_code_makes_nothing_and_stops_the_sweep(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with begun(root, retries=5) as driver:
        task = driver.handler.next("trial")
        assert task is not None
        request = task_request(task, root, root / "log", driver.state.stopping, 1, None).dumps()
        monkeypatch.setattr("ear.process.code.code_digest", lambda: "another")
        report = Report.from_result(trial_of(request).step())
        assert (report.state, report.fault) == ("failed", "code")
        assert driver.handler.report("trial", report)
        assert (driver.handler.stop_reason or "").startswith("The code in ")
        assert "it has changed since, or it is another checkout" in (driver.handler.stop_reason or "")
        assert driver.handler.next("another trial") is None
    assert not Store(root).published()


def test_a_process_that_could_not_begin_is_not_called_killed(root: Path) -> None:
    with begun(root) as driver:
        for trial, reason in (("unborn", BROKEN), ("killed", "The actor died: its worker was killed by SIGKILL")):
            assert driver.handler.next(trial) is not None
            driver.handler.lost(trial, reason)
            driver.handler.ended(trial)
        unborn, killed = sorted(
            (failure.last_lines for failure in driver.state.folder.failures()), key=len, reverse=True
        )
    assert unborn[-2].startswith("ModuleNotFoundError")
    assert unborn[-1] == "The trial's process could not start, see above."
    assert "killed, out of memory" in killed[-1]


@pytest.mark.parametrize(("failures", "ends"), [(3, "at work"), (4, "Ray did not start (why), repeatedly")])
def test_a_ray_that_does_not_start_is_started_again_a_few_times(
    failures: int, ends: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = iter(range(failures + 1))

    @contextmanager
    def cluster(*_: int) -> Iterator[Path]:
        if next(starts) < failures:
            raise ClusterLost("Ray did not start (why)")
        yield root

    monkeypatch.setattr(runner, "ray_cluster", cluster)
    monkeypatch.setattr(runner, "_run_rounds", lambda *_: True)
    with begun(root) as driver, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        at_work = runner._run_on_ray(driver.plan, root, driver.handler, driver.state, 1)
        assert (driver.handler.stop_reason or "at work") == ends
        assert at_work == (ends == "at work")
    assert len(told) == 3
    assert {str(each.message) for each in told} == {
        "Ray did not start (why): restarting it; trials resume from their checkpoints."
    }


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS], ids=errno.errorcode.get)
@pytest.mark.parametrize(
    "error",
    [
        lambda reason: reason,
        lambda reason: caused_by(ValueError("while it saved"), reason),
        lambda reason: RuntimeError(f"SafetensorError: I/O error: {reason.strerror} (os error {reason.errno})"),
    ],
    ids=["itself", "cause", "quoted"],
)
def test_a_full_or_read_only_place_is_no_trial_s_fault(number: int, error: Callable[[OSError], Exception]) -> None:
    assert fault_of(error(OSError(number, os.strerror(number)))) == "storage"


@pytest.mark.parametrize("error", [OSError(errno.EIO, "broken"), OSError("no number"), ValueError("28")], ids=repr)
def test_any_other_error_is_the_trial_s(error: Exception) -> None:
    assert fault_of(error) == "task"


def caused_by(error: Exception, reason: Exception) -> Exception:
    error.__cause__ = reason
    return error


def test_a_full_disk_ends_the_sweep_and_fails_no_run(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StageTrial, "_train", full)
    with begun(root) as driver:
        task = driver.handler.next("trial")
        assert task is not None
        request = task_request(task, root, root / "log", driver.state.stopping, 1, None).dumps()
        trial = trial_of(request)
        trial._processes = TrialProcesses(1)
        assert driver.handler.report("trial", Report.from_result(trial.step()))
        reason = "results can't be written (OSError: [Errno 28] No space left on device)"
        assert driver.handler.stop_reason == reason
        assert driver.handler.next("another trial") is None
        assert not driver.scheduler.settled


def full(*_: object) -> Report:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_node_that_is_lost_is_no_fault_of_its_trials_unless_they_lose_one_after_another(root: Path) -> None:
    reason = "The actor died because its node has died. Node Id: 0123"
    with begun(root) as driver:
        first = driver.handler.next("0")
        for number in range(NODES_LOST):
            driver.handler.lost(str(number), reason)
            driver.handler.ended(str(number))
            assert not driver.scheduler.settled
            other = driver.handler.next(f"other {number}")
            assert driver.handler.next(str(number + 1)) == first
            assert other is not None
            driver.handler.ended(f"other {number}")
        driver.handler.lost(str(NODES_LOST), reason)
        assert [result.state for result in driver.scheduler.settled.values()] == ["failed"]


def test_a_ray_that_is_lost_is_no_fault_of_its_trials(root: Path) -> None:
    with begun(root) as driver:
        tasks = {trial: driver.handler.next(trial) for trial in ("one", "other")}
        with pytest.warns(UserWarning, match="Ray's process raylet was killed: restarting it"):
            driver.handler.cluster_lost("Ray's process raylet was killed", again=True)
        assert driver.handler.tasks == {}
        assert driver.handler.stop_reason is None
        assert [driver.handler.next(trial) for trial in ("third", "fourth")] == list(tasks.values())
        driver.handler.cluster_lost("Ray's process raylet was killed", again=False)
        assert driver.handler.stop_reason == "Ray's process raylet was killed, repeatedly"
        assert not driver.scheduler.settled
