"""The `ear paper` commands. Each imports what it needs when it is called, so the module imports fast."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ear.cli.launch import DryRun, Slurm, launched
from ear.cli.options import DEFAULT_ROOT, Json, Root

if TYPE_CHECKING:
    from sweeps.spec.plan import Plan

app = typer.Typer(help="Run the paper's suite of sweeps, and say which of its claims reproduce.", no_args_is_help=True)

Base = Annotated[
    str, typer.Option("--base", metavar="CONFIG", help="The configuration to run on; its scale decides the cost.")
]
Seeds = Annotated[
    int | None,
    typer.Option("--seeds", min=1, metavar="N", help="Seeds 0 to N - 1 in every sweep, instead of the sweeps' own."),
]
Only = Annotated[
    list[str] | None, typer.Option("--only", metavar="SWEEP", help="A sweep of the suite, by name. Repeatable.")
]
OWN_BASE = "digits"


@app.command()
def plan(base: Base = OWN_BASE, seeds: Seeds = None, only: Only = None, root: Root = DEFAULT_ROOT) -> None:
    """State what the suite still has to compute, and its cost. Trains nothing.

    \b
    Examples:
      ear paper plan
      ear paper plan --base imagenet256_base
    """
    from analysis.paper.suite import Cost
    from ear.store import Store

    typer.echo(Cost.of(_plans(base, seeds, only), Store(root, reading=True)).told())


@app.command()
def run(
    context: typer.Context,
    base: Base = OWN_BASE,
    seeds: Seeds = None,
    only: Only = None,
    root: Root = DEFAULT_ROOT,
    slurm: Slurm = None,
    dry_run: DryRun = False,
) -> None:
    """Run the sweeps of sweeps/paper/ one after another, after stating the cost.

    Ctrl-C stops; the same command resumes. Results in the store are not computed again. With --slurm, each sweep is
    submitted as a job of its own; together they train once what they share.

    \b
    Examples:
      ear paper run
      ear paper run --base fashion_mnist --root /scratch/runs
      ear paper run --only alpha --seeds 9        more seeds decide more claims
      ear paper run --base imagenet256_base --slurm my_cluster.yaml --dry-run
    """
    from analysis.paper.running import run_suite
    from analysis.paper.suite import Cost, on
    from ear.errors import UserError
    from ear.store import Store
    from sweeps.views.outcome_view import say_outcome

    if seeds is not None and slurm is not None:
        raise UserError(
            "--seeds and --slurm don't go together: submit copies of the sweeps' YAML files with other seeds."
        )
    plans = _plans(base, seeds, only)
    typer.echo(Cost.of(plans, Store(root, reading=True)).told())
    if slurm is not None or dry_run:
        _submit(context, plans, base, root, slurm, dry_run)
        return
    outcome = run_suite(plans, root, typer.echo)
    say_outcome(outcome.done, outcome.reused, outcome.failed, outcome.stopped)
    if outcome.left:
        typer.echo(f"{outcome.left} more are running on other drivers.")
    at_root = "" if root == DEFAULT_ROOT else f" --root {root}"
    typer.echo(f"Next:  ear paper report{on(base)}{at_root}    the verdicts on the paper's claims")


@app.command()
def report(base: Base = OWN_BASE, root: Root = DEFAULT_ROOT, as_json: Json = False) -> None:
    """Print the verdicts on the paper's claims, and write them with the report of each sweep.

    Works with the sweeps that have run so far.

    Example:  ear paper report
    """
    from ear.errors import import_extra

    for module in ("pandas", "matplotlib"):
        import_extra(module, "analysis")
    from analysis.paper.page import write_verdicts

    written = write_verdicts(base, root)
    if as_json:
        print(written.json, end="")
        return
    print(written.summary)
    print("Files:", *(f"  {file}" for file in written.files), sep="\n")


def _submit(
    context: typer.Context,
    plans: "list[Plan]",
    base: str,
    root: Path,
    slurm: str | None,
    dry_run: bool,
) -> None:
    from sweeps.views.submission_check import check_submission

    if slurm is not None:
        for plan in plans:
            check_submission(plan, slurm, root)
    for plan in plans:
        typer.echo(f"{plan.sweep.name}:")
        line = ["sweep", "run", str(plan.source), *(["--base", base] if base != OWN_BASE else [])]
        line += ["--root", str(root.absolute())]
        launched(context, "sweep", plan.sweep.name, slurm, dry_run, False, inputs=plan.files, arguments=line)


def _plans(base: str, seeds: int | None, only: list[str] | None) -> "list[Plan]":
    from analysis.paper.suite import plan_on, suite_files
    from ear.errors import UserError

    known = list(suite_files())
    if unknown := [name for name in only or () if name not in known]:
        raise UserError(f"--only {unknown[0]}: the suite has no such sweep; it has {', '.join(known)}.")
    return [plan_on(sweep, base, range(seeds or 0)) for sweep in known if not only or sweep in only]
