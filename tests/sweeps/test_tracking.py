"""MLflow written by a thread: its real server dies and comes back, or does not; two drivers write one sweep."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from tracked import assert_whole, children, finished_plan, local_client, write

from ear.errors import UserError
from ear.store import Store
from sweeps.spec.plan import Plan
from sweeps.tracking import tracker as tracking
from sweeps.tracking.summary import SweepSummary
from sweeps.tracking.tracker import Tracker


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    return finished_plan(tmp_path, monkeypatch)


class Server:
    """A real `mlflow server` on loopback that can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{self.folder}/m.db"]
        command += ["--artifacts-destination", str(self.folder / "artifacts"), "--host", "127.0.0.1"]
        self.process = subprocess.Popen(
            [*command, "--port", str(self.port), "--workers", "1"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                assert time.monotonic() < deadline, "the server did not start"
                time.sleep(0.2)

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    server = Server(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    server.start()
    yield server
    server.kill()


@pytest.mark.slow
def test_a_server_that_goes_away_and_comes_back_has_everything_once(server: Server, plan: Plan, tmp_path: Path) -> None:
    tracker = Tracker(plan.identity, Store(tmp_path), tmp_path)
    write(tracker, plan, 0)
    write(tracker, plan, 1)
    time.sleep(0.3)  # in the middle of it
    server.kill()
    write(tracker, plan, 2)
    write(tracker, plan, 3)
    assert tracker._jobs.qsize() >= 5  # of these six; the thread may have one in hand, and nobody waits for it
    time.sleep(1)
    server.start()
    assert tracker.close(complete=True)
    assert_whole(mlflow.MlflowClient(server.uri), plan)


@pytest.mark.slow
def test_a_server_that_stays_away_is_given_up_and_filled_in_later(server: Server, plan: Plan, tmp_path: Path) -> None:
    tracker = Tracker(plan.identity, Store(tmp_path), tmp_path)
    write(tracker, plan, 0)
    server.kill()
    write(tracker, plan, 1)
    with pytest.warns(UserWarning, match="Results are safe in the store"):
        assert not tracker.close(complete=False, patience=1)
    with pytest.raises(UserError, match=r"can't be reached.*unset that variable"):
        Tracker(plan.identity, Store(tmp_path), tmp_path)
    server.start()
    again = Tracker(plan.identity, Store(tmp_path), tmp_path)
    for run in plan.runs:
        again.finish(run, {})
    assert again.close(complete=True)
    assert_whole(mlflow.MlflowClient(server.uri), plan)


@pytest.mark.slow
def test_a_server_that_hangs_is_given_up_too(server: Server, plan: Plan, tmp_path: Path) -> None:
    tracker = Tracker(plan.identity, Store(tmp_path), tmp_path)
    write(tracker, plan, 0)
    time.sleep(1)
    assert server.process is not None
    os.killpg(server.process.pid, signal.SIGSTOP)  # takes connections and never answers
    write(tracker, plan, 1)
    with pytest.warns(UserWarning, match="Results are safe in the store"):
        assert not tracker.close(complete=False, patience=2)
    assert tracker._thread.is_alive()  # in the call that has no answer yet: nobody waited for its end


@pytest.mark.usefixtures("database")
def test_of_two_drivers_one_writes_and_the_other_takes_over(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "RETRY_SECONDS", 0.1)
    first = Tracker(plan.identity, Store(tmp_path), tmp_path)
    second = Tracker(plan.identity, Store(tmp_path), tmp_path)
    for number in range(4):
        write(first, plan, number)
        write(second, plan, number)
    assert not second._runs
    assert first.close(complete=True)
    time.sleep(0.5)
    assert second.close(complete=True)
    assert_whole(local_client(tmp_path), plan)


@pytest.mark.usefixtures("database")
def test_a_run_that_both_drivers_of_a_search_report_as_pruned_has_ended(plan: Plan, tmp_path: Path) -> None:
    """The first one wrote its end; the other, which trained it, reports its beginning and its end once more."""
    first = Tracker(plan.identity, Store(tmp_path), tmp_path)
    second = Tracker(plan.identity, Store(tmp_path), tmp_path)
    run = plan.runs[0]
    second.begin(run, {})
    second.intermediate(run, 300, 42.0)
    second.prune(run, {})
    first.prune(run, {})
    assert first.close(complete=True)
    assert second.close(complete=True)
    (pruned,) = children(local_client(tmp_path)).values()
    assert (pruned.info.status, pruned.data.tags["ear.outcome"]) == ("FINISHED", "pruned")
    assert pruned.data.metrics["intermediate"] == 42.0


@pytest.mark.usefixtures("database")
def test_the_other_driver_takes_over_from_a_writer_that_just_died(plan: Plan, tmp_path: Path) -> None:
    first = Tracker(plan.identity, Store(tmp_path), tmp_path)
    second = Tracker(plan.identity, Store(tmp_path), tmp_path)
    for number in range(4):
        write(second, plan, number)
    time.sleep(0.5)  # it has seen that the first one writes, and looks again in 2 s
    first._lock.release()  # what the system does when a process is killed
    assert second.close(complete=True)
    assert_whole(local_client(tmp_path), plan)


CREATE = """
import sys
from pathlib import Path
from sweeps.tracking.mlflow_client import open_client
print("begin", flush=True)
open_client(Path(sys.argv[1]))
"""


def test_a_database_whose_making_was_killed_is_made_anew(plan: Plan, tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", CREATE, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".mlflow-*.db")):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.kill()
    process.wait()
    assert not (tmp_path / "mlflow.db").exists()
    tracker = Tracker(plan.identity, Store(tmp_path), tmp_path)
    for number in range(4):
        write(tracker, plan, number)
    assert tracker.close(complete=True)
    assert_whole(local_client(tmp_path), plan)
    assert list(tmp_path.glob(".mlflow-*")) == []


@pytest.mark.usefixtures("database")
def test_ends_of_every_kind(plan: Plan, tmp_path: Path) -> None:
    log = tmp_path / "tracked" / "logs" / f"{plan.runs[0].keys.stages[0]}.log"
    log.parent.mkdir(parents=True)
    log.write_text("what the trial said")
    tracker = Tracker(plan.identity, Store(tmp_path), tmp_path)
    tracker.fail(plan.runs[0], {}, "Traceback: boom")
    tracker.begin(plan.runs[1], {})
    tracker.intermediate(plan.runs[1], 300, 42.0)
    tracker.prune(plan.runs[1], {})
    tracker.begin(plan.runs[2], {"ear.role": "extra"})
    tracker.close(complete=False)
    client = local_client(tmp_path)
    experiment = client.get_experiment_by_name("tracked")
    runs = {run.data.tags.get("ear.key"): run for run in client.search_runs([experiment.experiment_id])}
    failed, pruned, killed = (runs[run.keys.evaluation] for run in plan.runs[:3])
    assert [run.info.status for run in (failed, pruned, killed, runs[None])] == [
        "FAILED",
        "FINISHED",
        "KILLED",
        "KILLED",
    ]
    assert [run.data.tags.get("ear.outcome") for run in (failed, pruned, killed)] == ["failed", "pruned", None]
    assert pruned.data.metrics["intermediate"] == 42.0
    assert killed.data.tags["ear.role"] == "extra"
    artifacts = {artifact.path for artifact in client.list_artifacts(failed.info.run_id)}
    assert {"traceback.txt", "logs", "config.yaml"} <= artifacts


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("harm", ["deleted", "unmarked"])
def test_the_best_run_is_marked_although_the_former_one_was_deleted_or_unmarked(
    tmp_path: Path, plan: Plan, harm: str
) -> None:
    """By a user, or by a driver that was killed between two writes."""

    def summarised(number: int) -> None:
        tracker = Tracker(plan.identity, Store(tmp_path), tmp_path)
        for each in range(2):
            write(tracker, plan, each)
        tracker.finish(plan.runs[2], {})  # as of a run whose result was there before MLflow
        summary = SweepSummary(f"best is {number}", {"runs_done": 2.0}, plan.runs[number].keys.evaluation, "{}")
        tracker.summarise(summary)
        assert tracker.close(complete=True)

    summarised(0)
    client = local_client(tmp_path)
    experiment = client.get_experiment_by_name("tracked").experiment_id
    (parent,) = client.search_runs([experiment], "tags.`ear.kind` = 'sweep'")
    first = parent.data.tags["ear.best"]
    assert client.get_run(first).data.tags["ear.best"] == "true"
    if harm == "deleted":
        client.delete_run(first)
    else:
        client.delete_tag(first, "ear.best")
    summarised(1)
    tags = client.get_run(parent.info.run_id).data.tags
    assert tags["mlflow.note.content"] == "best is 1"
    (marked,) = client.search_runs([experiment], "tags.`ear.best` = 'true'")
    assert marked.info.run_id == tags["ear.best"] != first
    assert marked.data.tags["ear.key"] == plan.runs[1].keys.evaluation
    (reused,) = client.search_runs([experiment], f"tags.`ear.key` = '{plan.runs[2].keys.evaluation}'")
    assert reused.info.end_time <= time.time() * 1000
    taken = reused.data.metrics["train_seconds"] + reused.data.metrics["evaluate_seconds"]
    assert reused.info.end_time - reused.info.start_time == round(1000 * taken)
