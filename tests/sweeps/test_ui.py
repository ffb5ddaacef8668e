"""ear ui: which study it shows, and that whatever ends it nothing is left running."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import psutil
import pytest
from tracked import finished_plan, write

from ear.errors import UserError
from ear.store import Store
from sweeps.tracking import Tracker
from sweeps.ui import find_study, ui

# A server with a worker that ignores being asked to end.
SERVER = """
import signal, subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"])
time.sleep({seconds})
"""
SERVE = """
import sys
from sweeps.ui import serve
serve({name: [sys.executable, "-c", code] for name, code in zip("ab", sys.argv[1:])})
"""


def test_the_newest_study_or_the_named_one(tmp_path: Path) -> None:
    assert find_study(tmp_path, None) is None
    for age, name in enumerate(("new", "old")):
        journal = tmp_path / name / "study.journal"
        journal.parent.mkdir()
        journal.touch()
        os.utime(journal, (1e9 - age, 1e9 - age))
    assert find_study(tmp_path, None) == tmp_path / "new" / "study.journal"
    assert find_study(tmp_path, "old") == tmp_path / "old" / "study.journal"
    with pytest.raises(UserError, match=r"no search 'other'.*there is old, new"):
        find_study(tmp_path, "other")


def serve(*seconds: float) -> "subprocess.Popen[str]":
    codes = [SERVER.format(seconds=each) for each in seconds]
    return subprocess.Popen(
        [sys.executable, "-c", SERVE, *codes], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def started_by(process: "subprocess.Popen[str]", count: int) -> list[psutil.Process]:
    deadline = time.monotonic() + 20
    while len(found := psutil.Process(process.pid).children(recursive=True)) < count:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.3)  # until the workers ignore what they are to ignore
    return found


def living(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that run; one that has ended and that nobody has asked about yet does not."""
    _, alive = psutil.wait_procs(processes, timeout=0)
    return [each for each in alive if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_it_ends_all_that_it_started(number: signal.Signals) -> None:
    process = serve(600, 600)
    started = started_by(process, 4)
    process.send_signal(number)
    assert process.wait(timeout=20) == 0
    assert not living(started)


def test_when_one_server_ends_the_other_does_and_it_is_said() -> None:
    process = serve(600, 3)
    started = started_by(process, 4)
    _, messages = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "b ended by itself; is its port taken?" in messages
    assert not living(started)


class Tracking(BaseHTTPRequestHandler):
    """A tracking server without a sweep."""

    def do_GET(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        pass


def test_a_server_that_runs_already_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with HTTPServer(("127.0.0.1", 0), Tracking) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        uri = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        ui(study=None, root=tmp_path)
        server.shutdown()
    assert capsys.readouterr().out == f"MLflow is on {uri} (MLFLOW_TRACKING_URI)\n"
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match=r"server .* \(MLFLOW_TRACKING_URI\) can't be reached"):
        ui(study=None, root=tmp_path)


@pytest.mark.slow
def test_both_pages_answer_on_loopback_and_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import optuna
    from optuna.storages.journal import JournalFileBackend

    plan = finished_plan(tmp_path, monkeypatch)
    tracker = Tracker(plan.identity, Store(tmp_path), tmp_path)
    write(tracker, plan, 0)
    tracker.close(complete=False)
    (tmp_path / "found").mkdir()
    backend = JournalFileBackend(str(tmp_path / "found" / "study.journal"))
    study = optuna.create_study(study_name="found", storage=optuna.storages.JournalStorage(backend))
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ear = str(Path(sys.executable).parent / "ear")
    process = subprocess.Popen(
        [ear, "ui", "--port", str(port), "--root", str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert read(f"http://127.0.0.1:{port}/health") == "OK"
        assert '"study_name": "found"' in read(f"http://127.0.0.1:{port + 1}/api/studies")
        started = psutil.Process(process.pid).children(recursive=True)
        listening = [each for one in started for each in one.net_connections() if each.status == psutil.CONN_LISTEN]
        assert {each.laddr.ip for each in listening} == {"127.0.0.1"}
    finally:
        process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 0
    assert not living(started)


def read(address: str) -> str:
    deadline = time.monotonic() + 90
    while True:
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:
                return str(answer.read().decode())
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.3)
