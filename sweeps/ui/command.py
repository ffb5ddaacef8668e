"""The `ear ui` command: serves MLflow's pages on runs and Optuna's pages on a study."""

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ear.cli.options import DEFAULT_ROOT, Root

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterable

TERMINATE_SECONDS = 10.0  # before a server that was asked to exit is killed
# Every request is checked (page_access); one process with several threads; no control socket.
GUNICORN = [
    "--config",
    "python:sweeps.ui.page_access",
    "--threads",
    "8",
    "--log-level",
    "warning",
    "--no-control-socket",
]


@dataclass(frozen=True)
class Server:
    """A web server to start: its command and additional environment."""

    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)  # other users can't read it, unlike the command
    port: int | None = None  # on 127.0.0.1; its address is printed once this answers, or at once if None


def ui(
    port: Annotated[
        int, typer.Option(min=1, max=65534, help="Port on 127.0.0.1; Optuna's pages use the next one.")
    ] = 5000,
    study: Annotated[
        str | None, typer.Option(metavar="SWEEP", help="The search to show; by default the newest one.")
    ] = None,
    root: Root = DEFAULT_ROOT,
) -> None:
    """Serve MLflow's pages on the sweeps of an output root, and Optuna's pages on a search, on this machine only.

    The printed links contain a token, which keeps out other users of the machine. From another machine, first run
    ssh -L 5000:127.0.0.1:5000 -L 5001:127.0.0.1:5001 MACHINE.

    \b
    Examples:
      ear ui --port 5001
      ear ui --study search
    """
    import secrets

    from ear.terminal.credentials import shown
    from sweeps.tracking.mlflow_client import is_server, open_client, tracking_uri
    from sweeps.ui.page_access import TOKEN

    journal = find_study(root, study)
    client = open_client(root, reading=True)  # kept alive: its database may be a copy that is deleted with it
    token = secrets.token_urlsafe(24)
    servers: dict[str, Server] = {}
    if is_server(tracking_uri(root)):
        typer.echo(f"MLflow is on {shown(tracking_uri(root))} (MLFLOW_TRACKING_URI)")
    else:
        servers[f"MLflow on {link(port, token)}{newest_runs(root, client)}"] = mlflow_server(client.tracking_uri, port)
    if journal is not None:
        from sweeps.search.study import open_journal  # imports Optuna

        open_journal(journal)  # raises here if unreadable, not later in the server
        servers[f"Optuna's dashboard of {journal.parent.name} on {link(port + 1, token)}"] = study_server(
            journal, port + 1
        )
    for server in servers.values():
        server.environment[TOKEN] = token
    if servers:
        serve(servers)


def link(port: int, token: str) -> str:
    """Returns the link to the pages on a port."""
    return f"http://127.0.0.1:{port}/?token={token}"


def newest_runs(root: Path, client: Any) -> str:
    """Returns the part of an address that opens the runs of the sweep that ran last; empty if no record tells which
    experiment that is."""
    from ear.errors import UserError
    from sweeps.spec.sweep_record import load_records, recorded_names
    from sweeps.tracking.links import runs_link

    records = []
    for name in recorded_names(root):
        with suppress(UserError):  # damaged: `ear report` tells of it
            records += load_records(root, name)
    for record in sorted(records, key=lambda record: record.last_ran, reverse=True):
        experiment = client.get_experiment_by_name(record.name)
        if record.experiment and experiment is not None and experiment.experiment_id == record.experiment:
            return runs_link("", record.experiment).removeprefix("/")
    return ""


def find_study(root: Path, name: str | None) -> Path | None:
    """Returns the journal of a search, by default of the newest one; None if there is no search.

    Raises:
        UserError: there is no search of that name.
    """
    from ear.errors import UserError

    journals = sorted(root.glob("*/study.journal"), key=lambda path: path.stat().st_mtime)
    if name is None:
        return journals[-1] if journals else None
    for journal in journals:
        if journal.parent.name == name:
            return journal
    known = ", ".join(journal.parent.name for journal in journals) or "none"
    raise UserError(f"There is no search {name!r} under {root}; known: {known}.")


def mlflow_server(tracking_uri: str, port: int) -> Server:
    """Returns MLflow's server. It runs under gunicorn, whose hook adds our access check, stricter than MLflow's."""
    import os
    import shlex
    import sys

    command = [sys.executable, "-P", "-W", "ignore::FutureWarning", "-m", "mlflow", "server"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1", "--gunicorn-opts", shlex.join(GUNICORN)]
    return Server(
        command,
        {
            "MLFLOW_BACKEND_STORE_URI": absolute_address(tracking_uri),  # may contain a password
            "MLFLOW_ARTIFACTS_DESTINATION": absolute_address(
                os.environ.get("MLFLOW_ARTIFACTS_DESTINATION") or "mlartifacts"
            ),
            "MLFLOW_SERVER_ALLOWED_HOSTS": "127.0.0.1,127.0.0.1:*,localhost,localhost:*",
            "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE": "false",
        },
        port,
    )


def absolute_address(address: str) -> str:
    """Returns the address of a database or folder with an absolute path, independent of the working directory."""
    from sweeps.tracking.mlflow_database import sqlite_file

    if (file := sqlite_file(address)) is not None and not file.name.startswith("file:"):
        from sqlalchemy import make_url

        return make_url(address).set(database=str(file.absolute())).render_as_string(hide_password=False)
    return address if ":" in address else str(Path(address).absolute())


def study_server(journal: Path, port: int) -> Server:
    """Returns the server of Optuna's dashboard on a study."""
    import sys

    pages = f"sweeps.ui.study_pages:study_pages({str(journal.resolve())!r})"
    command = [sys.executable, "-P", "-m", "gunicorn", *GUNICORN, "--bind", f"127.0.0.1:{port}", pages]
    return Server(command, port=port)


def serve(servers: dict[str, Server]) -> None:
    """Runs servers until Ctrl-C or until one of them exits; prints each one's name once it answers.

    They run in an empty folder, because gunicorn looks for modules in the working directory first, even with `-P`.

    Raises:
        Exit: a server exited by itself.
    """
    import os
    import subprocess
    import time

    from ear.files.temporary import temporary_folder
    from ear.process.code import code_environment
    from ear.process.interrupt import on_interrupt

    processes: dict[str, subprocess.Popen[bytes]] = {}
    starting = dict(servers)
    ended: list[str] = []
    stopped = False

    def stop() -> None:
        nonlocal stopped
        stopped = True

    with temporary_folder() as empty, on_interrupt(stop):
        try:
            # In sessions of their own: Ctrl-C reaches only this process, which then ends them and their children.
            for name, server in servers.items():
                environment = {**os.environ, **code_environment(), **server.environment}
                processes[name] = subprocess.Popen(server.command, env=environment, cwd=empty, start_new_session=True)
            while not stopped and not ended:
                for name in [name for name, server in starting.items() if answers(server.port)]:
                    typer.echo(f"{name} (Ctrl-C ends it)")
                    del starting[name]
                ended = [name for name, process in processes.items() if process.poll() is not None]
                time.sleep(0.2)
        finally:
            end(processes.values())
    if ended and not stopped:
        code = processes[ended[0]].returncode
        typer.echo(
            f"{ended[0]} exited with code {code}; see its output above. If its port is in use, try another --port.",
            err=True,
        )
        raise typer.Exit(1)


def answers(port: int | None) -> bool:
    """Whether something listens on a port of this machine; also if no port is given."""
    import socket

    if port is None:
        return True
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def end(processes: "Iterable[subprocess.Popen[bytes]]") -> None:
    """Terminates server processes and their children; kills those that do not exit in time."""
    import os
    import signal
    import subprocess

    for process in processes:
        process.terminate()  # not the whole group: a server shuts down its own workers
    try:
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(TERMINATE_SECONDS)
    finally:  # Ctrl-C again
        for process in processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
