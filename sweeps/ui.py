"""ear ui: MLflow's pages on the runs, and Optuna's on the studies."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ear.cli.options import DEFAULT_ROOT, Root

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterable

SECONDS_TO_END = 10.0  # for a server that is asked to


def ui(
    port: Annotated[
        int, typer.Option(min=1, max=65534, help="Port on 127.0.0.1; Optuna's pages take the next.")
    ] = 5000,
    study: Annotated[
        str | None, typer.Option(metavar="SWEEP", help="The search to show; the newest one by default.")
    ] = None,
    root: Root = DEFAULT_ROOT,
) -> None:
    """Open MLflow's pages on the sweeps of an output root, and Optuna's on a search, on this machine only.

    \b
    Examples:
      ear ui --port 5001
      ear ui --study search
    """
    from sweeps.mlflow_client import is_server, open_client, shown, tracking_uri

    journal = find_study(root, study)
    client = open_client(root, reading=True)  # whose database may be a copy that goes with it
    servers: dict[str, list[str]] = {}
    if is_server(tracking_uri(root)):
        typer.echo(f"MLflow is on {shown(tracking_uri(root))} (MLFLOW_TRACKING_URI)")
    else:
        servers[f"MLflow on http://127.0.0.1:{port}"] = mlflow_command(client.tracking_uri, port)
    if journal is not None:
        from sweeps.search.study import open_journal  # imports Optuna

        open_journal(journal)  # what can't be read is said here, not by a server that ends
        servers[f"Optuna's dashboard of {journal.parent.name} on http://127.0.0.1:{port + 1}"] = optuna_command(
            journal, port + 1
        )
    if servers:
        serve(servers)


def find_study(root: Path, name: str | None) -> Path | None:
    """The journal of a search, the newest one where none is named; None where there is none.

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
    raise UserError(f"There is no search {name!r} under {root}; there is {known}.")


def mlflow_command(tracking_uri: str, port: int) -> list[str]:
    import sys

    command = [sys.executable, "-P", "-m", "mlflow", "server", "--backend-store-uri", tracking_uri]
    return [*command, "--host", "127.0.0.1", "--port", str(port)]


def optuna_command(journal: Path, port: int) -> list[str]:
    import sys

    run = "from optuna_dashboard._cli import main; main()"
    return [sys.executable, "-P", "-c", run, str(journal), "--host", "127.0.0.1", "--port", str(port)]


def serve(servers: dict[str, list[str]]) -> None:
    """Runs them until Ctrl-C; when one of them ends, so do the others.

    Raises:
        Exit: one ended by itself.
    """
    import subprocess
    import time

    from ear.interrupt import on_interrupt

    processes: dict[str, subprocess.Popen[bytes]] = {}
    ended: list[str] = []
    stopped = False

    def stop() -> None:
        nonlocal stopped
        stopped = True

    with on_interrupt(stop):
        try:
            # In groups of their own: Ctrl-C reaches this process alone, which then ends them with all they started.
            for name, command in servers.items():
                processes[name] = subprocess.Popen(command, start_new_session=True)
                typer.echo(f"{name} (Ctrl-C ends it)")
            while not stopped and not ended:
                ended = [name for name, process in processes.items() if process.poll() is not None]
                time.sleep(0.2)
        finally:
            end(processes.values())
    if ended and not stopped:
        typer.echo(f"{ended[0]} ended by itself; is its port taken? Try another --port.", err=True)
        raise typer.Exit(1)


def end(processes: "Iterable[subprocess.Popen[bytes]]") -> None:
    """Ends them and what they have started; what does not end when asked is killed."""
    import os
    import signal
    import subprocess
    from contextlib import suppress

    for process in processes:
        process.terminate()  # first alone: a server ends its workers in order
    try:
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(SECONDS_TO_END)
    finally:  # Ctrl-C again
        for process in processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
