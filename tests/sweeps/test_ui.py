"""ear ui: which study it shows, whom it lets in, and that whatever ends it nothing is left running."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import psutil
import pytest

from ear.errors import UserError
from sweeps.ui.command import find_study, mlflow_server, ui

# A server with a worker that ignores being asked to end.
SERVER = """
import signal, subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"])
time.sleep({seconds})
"""
SERVE = """
import sys
from sweeps.ui.command import Server, serve
serve({name: Server([sys.executable, "-c", code]) for name, code in zip("ab", sys.argv[1:])})
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
    with pytest.raises(UserError, match=r"no search 'other'.*known: old, new"):
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
    while sum(map(ignores_sigterm, found)) < count // 2:  # the workers
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def ignores_sigterm(process: psutil.Process) -> bool:
    status = Path(f"/proc/{process.pid}/status").read_text()
    ignored = int(re.search(r"^SigIgn:\s*(\w+)$", status, re.MULTILINE)[1], 16)  # type: ignore[index]
    return bool(ignored >> (signal.SIGTERM - 1) & 1)


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
    assert "b exited with code 0; see its output above." in messages
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


def test_a_database_with_its_password_is_no_argument() -> None:
    server = mlflow_server("postgresql://me:geheim@host/db", 5000)
    assert "geheim" not in " ".join(server.command)
    assert server.environment["MLFLOW_BACKEND_STORE_URI"] == "postgresql://me:geheim@host/db"


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("sqlite:///m.db?timeout=9", "sqlite:///{here}/m.db?timeout=9"),
        ("sqlite:////a/m.db", "sqlite:////a/m.db"),
        ("mlruns", "{here}/mlruns"),
        ("/a/mlruns", "/a/mlruns"),
        ("file:///a/mlruns", "file:///a/mlruns"),
    ],
)
def test_paths_mean_what_they_do_in_the_working_directory(
    given: str, meant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_ARTIFACTS_DESTINATION", raising=False)
    environment = mlflow_server(given, 5000).environment
    assert environment["MLFLOW_BACKEND_STORE_URI"] == meant.format(here=tmp_path)
    assert environment["MLFLOW_ARTIFACTS_DESTINATION"] == str(tmp_path / "mlartifacts")
    monkeypatch.setenv("MLFLOW_ARTIFACTS_DESTINATION", "s3://bucket/x")
    assert mlflow_server(given, 5000).environment["MLFLOW_ARTIFACTS_DESTINATION"] == "s3://bucket/x"
