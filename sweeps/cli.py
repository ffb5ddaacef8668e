"""The `ear sweep` commands. Each command imports what it needs when it is called, so the module imports fast."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ear.cli.launch import DryRun, Follow, Slurm, launched
from ear.cli.options import DEFAULT_ROOT, Json, Root

if TYPE_CHECKING:
    from sweeps.spec.plan import Plan

app = typer.Typer(help="Plan and run the sweeps that a YAML file describes.", no_args_is_help=True)

SweepFile = Annotated[Path, typer.Argument(metavar="FILE", help="The sweep's YAML, e.g. sweeps/quickstart.yaml.")]


Base = Annotated[
    str | None, typer.Option("--base", metavar="CONFIG", help="Run the sweep on this configuration instead of its own.")
]

Settings = Annotated[
    list[str],
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change a parameter in every run; this is another sweep, NAME-KEY-VALUE."
    ),
]
Only = Annotated[
    list[str],
    typer.Option(
        "--only", metavar="AXIS=VALUE", help="Only this part of the grid, e.g. scoring.alpha=1.0. Repeatable."
    ),
]


@app.command()
def plan(
    file: SweepFile,
    base: Base = None,
    settings: Settings = [],  # noqa: B006 (typer copies it)
    only: Only = [],  # noqa: B006
    root: Root = DEFAULT_ROOT,
    as_json: Json = False,
) -> None:
    """Validate a sweep and show its stage tree, what is done, and what the rest will cost. Trains nothing.

    \b
    Examples:
      ear sweep plan sweeps/quickstart.yaml
      ear sweep plan sweeps/paper/temperatures.yaml --json
      ear sweep plan sweeps/paper/alpha.yaml --base imagenet256_base
    """
    from ear.store import Store
    from sweeps.spec.plan import compile_plan

    compiled = compile_plan(file, base, settings, only)
    # Imported after the YAML is read, so that an error in it shows at once.
    from sweeps.views.plan_view import show_plan

    show_plan(compiled, Store(root, reading=True), as_json)


@app.command()
def run(
    context: typer.Context,
    file: SweepFile,
    base: Base = None,
    settings: Settings = [],  # noqa: B006
    only: Only = [],  # noqa: B006
    root: Root = DEFAULT_ROOT,
    slurm: Slurm = None,
    dry_run: DryRun = False,
    follow: Follow = False,
) -> None:
    """Train and evaluate what a sweep still lacks, and track every run in MLflow.

    Ctrl-C stops; the same command resumes. Results in the store are not computed again.

    \b
    Examples:
      ear sweep run sweeps/quickstart.yaml
      ear sweep run sweeps/quickstart.yaml --only scoring.alpha=1.0
      ear sweep run sweeps/quickstart.yaml --set training.batch_size=64
      ear sweep run sweeps/quickstart.yaml --slurm my_cluster.yaml --follow
    """
    from sweeps.spec.plan import compile_plan

    compiled = compile_plan(file, base, settings, only)
    if slurm is not None:
        from sweeps.views.submission_check import check_submission

        check_submission(compiled, slurm, root)
    if not launched(context, "sweep", compiled.sweep.name, slurm, dry_run, follow, inputs=compiled.files):
        _run(compiled, root)


def _run(compiled: "Plan", root: Path) -> None:
    from slurm.allocation import NOTHING_READY
    from sweeps.driver.run_sweep import run_sweep
    from sweeps.views.outcome_view import say_outcome

    outcome = run_sweep(compiled, root)
    say_outcome(outcome.done, outcome.reused, outcome.failed, outcome.stopped)
    if outcome.left:
        if outcome.idle:
            typer.echo(f"{outcome.left} more are waiting for other drivers.")
            raise typer.Exit(NOTHING_READY)
        typer.echo(f"{outcome.left} more are running on other drivers; this driver is no longer needed.")
        return
    if compiled.sweep.search is not None:
        from sweeps.search.study_summary import describe

        for line in describe(compiled.sweep, root / compiled.sweep.name):
            typer.echo(line)
    else:
        from sweeps.views.best_view import show_best

        show_best(compiled, root)
    at_root = "" if root == DEFAULT_ROOT else f" --root {root}"
    typer.echo(f"Next:  ear report {compiled.sweep.name}{at_root}    table, figure and samples beside the paper's")
    typer.echo(f"       ear ui{at_root}    every run in MLflow's pages")


@app.command(name="list")
def list_(root: Root = DEFAULT_ROOT, as_json: Json = False) -> None:
    """List the sweeps that were run below an output root, the one that changed last first.

    Example:  ear sweep list
    """
    from sweeps.views.list_view import show_sweeps

    show_sweeps(root, as_json)


@app.command()
def status(
    file: SweepFile,
    base: Base = None,
    settings: Settings = [],  # noqa: B006
    only: Only = [],  # noqa: B006
    root: Root = DEFAULT_ROOT,
    as_json: Json = False,
) -> None:
    """Show what a sweep is running and where, what is done, what failed and why, and what it has cost.

    Example:  ear sweep status sweeps/quickstart.yaml
    """
    from sweeps.spec.plan import compile_plan

    compiled = compile_plan(file, base, settings, only)
    # Imported after the YAML is read, so that an error in it shows at once.
    from sweeps.views.status_view import show_status

    show_status(compiled, root, as_json)


@app.command()
def logs(
    file: SweepFile,
    which: Annotated[str | None, typer.Argument(metavar="[RUN]", help="Part of a run's label, or of a key.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Show what is written from here on, until Ctrl-C.")] = False,
    base: Base = None,
    settings: Settings = [],  # noqa: B006
    root: Root = DEFAULT_ROOT,
) -> None:
    """Print the log of a training and its evaluations: of one that failed, else the one written last.

    \b
    Examples:
      ear sweep logs sweeps/quickstart.yaml
      ear sweep logs sweeps/quickstart.yaml alpha=1.25 --follow
      ear sweep logs sweeps/quickstart.yaml 284beb590dae
    """
    from sweeps.spec.plan import compile_plan

    compiled = compile_plan(file, base, settings)
    from sweeps.views.log_view import show_log

    show_log(compiled, root, which, follow)


@app.command()
def stop(
    file: SweepFile,
    base: Base = None,
    settings: Settings = [],  # noqa: B006
    root: Root = DEFAULT_ROOT,
) -> None:
    """Ask every driver of a sweep, on any machine, running or queued, to save its work and exit.

    Example:  ear sweep stop sweeps/quickstart.yaml
    """
    from sweeps.driver.sweep_folder import SweepFolder
    from sweeps.spec.plan import compile_plan

    name = compile_plan(file, base, settings).sweep.name
    folder = SweepFolder(root, name)
    folder.request_stop()
    # Not only if drivers are seen: one that is starting has no state file yet, and some file systems show no locks of
    # other machines.
    if running := folder.running():
        typer.echo(f"Asked to stop: {', '.join(f'{driver.host} (process {driver.pid})' for driver in running)}.")
    else:
        typer.echo(
            f"No running driver of {name} is visible from here. Drivers that are starting, queued or on other machines "
            "were asked to stop."
        )


@app.command()
def resume(
    file: SweepFile,
    base: Base = None,
    settings: Settings = [],  # noqa: B006
    only: Only = [],  # noqa: B006
    root: Root = DEFAULT_ROOT,
) -> None:
    """Resume a sweep that was stopped or killed; the same as running it again.

    Example:  ear sweep resume sweeps/quickstart.yaml
    """
    from sweeps.driver.sweep_folder import SweepFolder
    from sweeps.spec.plan import compile_plan

    compiled = compile_plan(file, base, settings, only)
    SweepFolder(root, compiled.sweep.name).require_known()
    _run(compiled, root)
