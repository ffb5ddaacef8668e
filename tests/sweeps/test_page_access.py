"""Whom the pages of ear ui let in: with the servers that it starts, as they run."""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

import optuna
import psutil
import pytest
from optuna.storages.journal import JournalFileBackend
from typer import Exit
from werkzeug.test import Client

from ear.process.code import code_environment
from sweeps.ui.command import GUNICORN, Server, serve
from sweeps.ui.page_access import NO_TOKEN, WRONG_HOST, WRONG_ORIGIN, Guarded
from sweeps.ui.study_pages import study_pages

SECONDS_TO_START = 120.0
TOKEN = "t0ken"


class Pages(NamedTuple):
    process: psutil.Process
    ports: dict[str, int]
    token: str


class Answer(NamedTuple):
    status: int
    text: str


DELETE = {  # of each server's: method, path, JSON
    "mlflow": ("POST", "/api/2.0/mlflow/experiments/delete", {"experiment_id": "0"}),
    "optuna": ("DELETE", "/api/studies/0", None),
}
LOOK = {
    "mlflow": ("GET", "/api/2.0/mlflow/experiments/get?experiment_id=0", None),
    "optuna": ("GET", "/api/studies", None),
}
THERE = {"mlflow": '"lifecycle_stage": "active"', "optuna": '"study_name": "found"'}


def new_study(root: Path) -> Path:
    journal = root / "found" / "study.journal"
    journal.parent.mkdir(parents=True)
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(journal)))
    optuna.create_study(study_name="found", storage=storage)
    return journal


def set_traps(folder: Path) -> Path:
    """Python files that leave `ran` where they are imported."""
    for name in ("secrets", "sweeps"):
        (folder / f"{name}.py").write_text("from pathlib import Path\nPath(__file__).with_name('ran').touch()\n")
    return folder


def test_python_files_of_the_working_directory_are_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(set_traps(tmp_path))
    check = [sys.executable, "-P", "-m", "gunicorn", *GUNICORN, "--check-config", "sweeps.ui.page_access:answer"]
    with pytest.raises(Exit):  # it ends by itself
        serve({"pages": Server(check)})
    assert not (tmp_path / "ran").exists()


@pytest.fixture(scope="module")
def pages(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    root = tmp_path_factory.mktemp("root")
    new_study(root)
    shutil.copy(empty_database, root / "mlflow.db")
    port = free_pair()
    command = [sys.executable, "-P", "-m", "ear", "ui", "--port", str(port), "--root", str(root)]
    folder = set_traps(tmp_path_factory.mktemp("folder"))
    environment = {**os.environ, **code_environment()}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder, env=environment)
    started = []
    try:
        assert process.stdout is not None
        links = [process.stdout.readline() for _ in range(2)]
        tokens = {found for line in links for found in re.findall(r"/\?token=(\S+)", line)}
        assert len(tokens) == 1
        ports = {"mlflow": port, "optuna": port + 1}
        for each in ports.values():
            wait_for(each)
        started = psutil.Process(process.pid).children(recursive=True)
        yield Pages(psutil.Process(process.pid), ports, tokens.pop())
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0
    assert not psutil.wait_procs(started, timeout=5)[1]
    assert sorted(path.name for path in folder.iterdir()) == ["secrets.py", "sweeps.py"]  # none was run


def free_pair() -> int:
    """A port that nobody listens on, nor on the next one."""
    while True:
        with socket.socket() as first, socket.socket() as second, suppress(OSError):
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            second.bind(("127.0.0.1", port + 1))
            return port


def wait_for(port: int) -> None:
    deadline = time.monotonic() + SECONDS_TO_START
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            return
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.2)


def ask(port: int, method: str, path: str, content: object = None, **headers: str) -> Answer:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request(
            method,
            path,
            None if content is None else json.dumps(content),
            {"Content-Type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}},
        )
        answer = connection.getresponse()
        return Answer(answer.status, answer.read().decode())


@pytest.mark.parametrize("server", ["mlflow", "optuna"])
def test_only_the_owner_of_the_link_gets_to_a_server(pages: Pages, server: str) -> None:
    port, own = pages.ports[server], {"Authorization": f"Bearer {pages.token}"}
    for method, path, content in (LOOK[server], DELETE[server]):
        for headers, words in (
            ({}, NO_TOKEN),
            ({"Authorization": "Bearer guess"}, NO_TOKEN),
            ({**own, "Host": "evil.example"}, WRONG_HOST),
            ({**own, "Host": f"10.1.2.3:{port}"}, WRONG_HOST),
            ({**own, "Origin": "http://evil.example"}, WRONG_ORIGIN),
            ({**own, "Origin": f"http://127.0.0.1:{port + 2}"}, WRONG_ORIGIN),
        ):
            assert ask(port, method, path, content, **headers) == (403, f"{words}\n")
        look = ask(port, *LOOK[server], **own)
        assert look.status == 200
        assert THERE[server] in look.text
    method, path, content = DELETE[server]
    tunnel = {**own, "Host": "localhost:6006", "Origin": "http://localhost:6006"}  # another port on this side
    assert ask(port, method, path, content, **tunnel).status in (200, 204)
    assert THERE[server] not in ask(port, *LOOK[server], **own).text


def test_they_listen_on_loopback_only_and_no_command_line_has_the_token(pages: Pages) -> None:
    started = pages.process.children(recursive=True)
    listening = [each for one in started for each in one.net_connections() if each.status == psutil.CONN_LISTEN]
    assert {each.laddr.ip for each in listening} == {"127.0.0.1"}
    assert not [one for one in (pages.process, *started) if pages.token in " ".join(one.cmdline())]


@pytest.fixture
def dashboard(tmp_path: Path) -> Client:
    return Client(Guarded(study_pages(str(new_study(tmp_path))), TOKEN), use_cookies=False)


def test_a_browser_gets_in_by_the_link_and_then_by_its_cookie(dashboard: Client) -> None:
    here = {"Host": "127.0.0.1:5001"}
    assert dashboard.get("/api/studies", headers=here).status_code == 403
    assert dashboard.get("/?token=guess", headers=here).status_code == 403
    entered = dashboard.get(f"/?token={TOKEN}", headers=here)
    assert (entered.status_code, entered.headers["Location"]) == (302, "/")
    (cookie,) = entered.headers.getlist("Set-Cookie")
    assert cookie == f"ear-ui-5001={TOKEN}; Path=/; HttpOnly; SameSite=Lax"
    kept = {**here, "Cookie": f"other=1; ear-ui-5001={TOKEN}"}
    own_page = {**kept, "Origin": "http://127.0.0.1:5001", "Sec-Fetch-Site": "same-origin"}
    assert dashboard.get("/api/studies", headers=kept).status_code == 200
    assert dashboard.get("/api/studies", headers={**here, "Cookie": f"ear-ui-5002={TOKEN}"}).status_code == 403
    assert dashboard.delete("/api/studies/0", headers=own_page).status_code == 204


@pytest.mark.parametrize(
    "other", ["theme=dark mode", 'p={"a":1}', "a[0]=1", "x=é", "flag", "=v", "", "a=b=c", "ear-ui-5001=of_yesterday"]
)
def test_cookies_of_other_servers_keep_nobody_out(dashboard: Client, other: str) -> None:
    own = f"ear-ui-5001={TOKEN}"
    for cookies in (f"{other}; {own}", f"{own}; {other}", f"{other};{own};{other}"):
        kept = {"Host": "127.0.0.1:5001", "Cookie": cookies}
        assert dashboard.get("/api/studies", headers=kept).status_code == 200
    assert dashboard.get("/api/studies", headers={**kept, "Cookie": other}).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "null"},
        {"Origin": "https://127.0.0.1:5001"},
        {"Origin": "http://localhost:5001"},
        {"Sec-Fetch-Site": "same-site"},  # another port, to which the cookie goes too
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
    ],
)
def test_a_page_of_another_origin_does_nothing_with_the_cookie(dashboard: Client, headers: dict[str, str]) -> None:
    sent = {"Host": "127.0.0.1:5001", "Cookie": f"ear-ui-5001={TOKEN}", **headers}
    for method in ("GET", "DELETE"):
        refused = dashboard.open("/api/studies/0", method=method, headers=sent)
        assert (refused.status_code, refused.text) == (403, f"{WRONG_ORIGIN}\n")


@pytest.mark.parametrize(
    "host", ["", "evil.example:5001", "127.0.0.1.evil.example", "127.0.0.1:x", "localhost:", "[::1]:1"]
)
def test_other_names_of_this_machine_are_refused(dashboard: Client, host: str) -> None:
    refused = dashboard.get(f"/?token={TOKEN}", headers={"Host": host})
    assert (refused.status_code, refused.text) == (403, f"{WRONG_HOST}\n")


def test_a_link_on_another_page_may_be_followed(dashboard: Client) -> None:
    followed = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert dashboard.get(f"/?token={TOKEN}", headers={"Host": "localhost:1", **followed}).status_code == 302
