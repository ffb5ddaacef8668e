"""ear sweep, ear ui. Imports nothing heavy: every command imports what it needs when it is called."""

from pathlib import Path
from typing import Annotated

import typer

from ear.cli.options import DEFAULT_ROOT, Json, Root

app = typer.Typer(help="Plan and run the sweeps that a YAML file describes.", no_args_is_help=True)

SweepFile = Annotated[Path, typer.Argument(metavar="FILE", help="The sweep's YAML, e.g. sweeps/quickstart.yaml.")]


Base = Annotated[
    str | None, typer.Option("--base", metavar="CONFIG", help="Run the sweep on this configuration instead of its own.")
]


@app.command()
def plan(file: SweepFile, base: Base = None, root: Root = DEFAULT_ROOT, as_json: Json = False) -> None:
    """Validate a sweep and list what it would do, and at what cost; computes nothing.

    \b
    Examples:
      ear sweep plan sweeps/quickstart.yaml
      ear sweep plan sweeps/paper/alpha.yaml --base imagenet256_base
    """
    import json

    from ear.errors import UserError
    from ear.store import Store
    from sweeps.plan import compile_plan
    from sweeps.summary import plan_cost, plan_json, plan_table

    compiled = compile_plan(file, base)
    store = Store(root)
    if as_json:
        print(json.dumps(plan_json(compiled, store), indent=2))
        return
    try:
        plan_table(compiled, store)
    except UserError as error:
        # A sweep can be priced before its data is there.
        typer.echo(f"{compiled.sweep.name}: {len(compiled.runs)} runs. What is done already can't be told: {error}")
    if priced := plan_cost(compiled):
        typer.echo(priced)


@app.command()
def run(file: SweepFile, base: Base = None, root: Root = DEFAULT_ROOT) -> None:
    """Train and evaluate what is missing of a sweep, and track every run in MLflow.

    Ctrl-C stops; the same command goes on. What the store holds is not trained again.

    Example:  ear sweep run sweeps/quickstart.yaml
    """
    from sweeps.plan import compile_plan
    from sweeps.runner import run_sweep

    compiled = compile_plan(file, base)
    outcome = run_sweep(compiled, root)
    for label, traceback in outcome.failed.items():
        typer.echo(f"failed: {label}\n{traceback}", err=True)
    if outcome.interrupted:
        raise KeyboardInterrupt  # the command line says how to go on
    if outcome.failed:
        typer.echo(f"{len(outcome.failed)} trials failed; run the same command again to retry them.", err=True)
        raise typer.Exit(1)
    typer.echo(f"{outcome.trained} trials done now, {outcome.reused} were in the store already.")
    at_root = "" if root == DEFAULT_ROOT else f" --root {root}"
    typer.echo(f"Next:  ear report {compiled.sweep.name}{at_root}    table, figure and samples beside the paper's")
    typer.echo(f"       ear ui{at_root}    MLflow's pages on every run")


def ui(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1.")] = 5000,
    root: Root = DEFAULT_ROOT,
) -> None:
    """Open MLflow's pages on the sweeps of an output root, on this machine only.

    Example:  ear ui --port 5001
    """
    import os
    import sys

    from ear.errors import UserError
    from sweeps.tracking import open_client, tracking_uri

    if tracking_uri(root).startswith("sqlite") and not (root / "mlflow.db").exists():
        raise UserError(f"There is nothing to show: {root / 'mlflow.db'} does not exist. Run a sweep first.")
    open_client(root)
    typer.echo(f"MLflow on http://127.0.0.1:{port} (Ctrl-C ends it)")
    command = ["-m", "mlflow", "server", "--backend-store-uri", tracking_uri(root)]
    os.execv(sys.executable, [sys.executable, *command, "--host", "127.0.0.1", "--port", str(port)])
