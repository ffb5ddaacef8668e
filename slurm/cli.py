"""The `ear slurm` commands and the `--slurm` option."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ear.cli.launch import Launch
from ear.cli.options import DEFAULT_ROOT, Json, Root

if TYPE_CHECKING:
    from slurm.submission import JobRecord

app = typer.Typer(help="Show, follow and cancel the SLURM jobs submitted with --slurm.", no_args_is_help=True)

JobName = Annotated[str, typer.Argument(metavar="JOB", help="A job's id, as `ear slurm status` shows it.")]
SHOWN = 10  # submissions that `ear slurm status` lists


def launch(order: Launch) -> None:
    """Submits a command that was called with --slurm.

    Raises:
        UserError: the profile is not valid, SLURM is not available here (a dry run needs none) or rejects the job.
        Exit: the dry run's script was rejected, or the followed job failed.
    """
    from ear.errors import import_extra
    from ear.terminal.console import terminal

    import_extra("submitit", "slurm")
    from slurm.follow import follow
    from slurm.profile import load_profile
    from slurm.submission import Request, Submission

    profile = load_profile(order.profile)
    request = Request(order.kind, order.name, order.arguments, order.root, order.cache, order.inputs)  # type: ignore[arg-type]
    submission = Submission(request, profile, order.profile)
    if order.dry_run:
        print(submission.script())
        if shutil.which("sbatch") is None:
            print("\n# SLURM is not available here (no sbatch), so the script was not checked.")
            return
        taken, words = submission.test()
        print(f"\n# sbatch --test-only: {words}")
        if not taken:
            raise typer.Exit(1)
        return
    record = submission.submit()
    at_root = "" if order.root == DEFAULT_ROOT.absolute() else f" --root {order.root}"
    print(f"Submitted: job {record.id}" + (f", an array of {len(record.tasks)}" if len(record.tasks) > 1 else ""))
    print(f"Logs:  {record.log(record.tasks[0])}")
    if not order.follow:
        print(f"Next:  ear slurm status{at_root}")
        print(f"       ear slurm logs {record.id} --follow{at_root}")
        print(f"       ear slurm cancel {record.id}{at_root}")
        return
    print(f"Ctrl-C stops watching; the job continues. `ear slurm cancel {record.id}{at_root}` ends it.", flush=True)
    if not follow(record, terminal()):
        raise typer.Exit(1)


@app.command()
def status(root: Root = DEFAULT_ROOT, as_json: Json = False) -> None:
    """Show the newest submissions and their jobs' states: where they run, or why they wait.

    Example:  ear slurm status
    """
    from ear.terminal.console import terminal
    from slurm.queue import task_states
    from slurm.states_table import states_table

    records = known_jobs(root)[:SHOWN]
    states = task_states([task for record in records for task in record.tasks])
    if as_json:
        jobs = [
            {**asdict(record), "folder": str(record.folder), "tasks": [asdict(states[task]) for task in record.tasks]}
            for record in records
        ]
        print(json.dumps(jobs, indent=2))
        return
    console = terminal()
    console.print(states_table(records, states))
    if not records:
        console.print(f"No jobs were submitted with the output root {root}.")


@app.command()
def logs(
    job: JobName,
    root: Root = DEFAULT_ROOT,
    lines: Annotated[int, typer.Option(min=1, help="Number of lines to print from the end, without --follow.")] = 40,
    rank: Annotated[int, typer.Option(min=0, help="Rank of the task whose log to print.")] = 0,
    stay: Annotated[bool, typer.Option("--follow", help="Keep printing new lines until the job ends.")] = False,
) -> None:
    """Print the path and the last lines of a job's log.

    Example:  ear slurm logs 1234 --follow
    """
    from ear.terminal.console import terminal
    from slurm.follow import follow

    record = find_job(root, job)
    only = job if job in record.tasks else None
    if stay:
        if not follow(record, terminal(), only, rank):
            raise typer.Exit(1)
        return
    for task in [only] if only else record.tasks:
        path = record.log(task, rank)
        print(f"==> {path} <==")
        if path.exists():
            print("\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]))
        else:
            print("No log yet: the job has not started; `ear slurm status` shows why.")


@app.command()
def cancel(job: JobName, root: Root = DEFAULT_ROOT) -> None:
    """Cancel a job. Its command saves its work first, as after Ctrl-C.

    Example:  ear slurm cancel 1234
    """
    from slurm import queue

    record = find_job(root, job)
    queue.cancel(job)
    print(f"Job {job} saves its work and ends. Resume with:  {record.command} --slurm {record.profile}")


def known_jobs(root: Path) -> list["JobRecord"]:
    """Returns the submissions with this output root, newest first."""
    from ear.errors import import_extra

    import_extra("submitit", "slurm")
    from slurm.submission import RECORD, JobRecord

    records = [JobRecord.load(path) for path in (root / "slurm").glob(f"*/{RECORD}")]
    return sorted(records, key=lambda record: (record.submitted, int(record.id)), reverse=True)


def find_job(root: Path, job: str) -> "JobRecord":
    """Returns the submission with this job id, or with an array member of this id.

    Raises:
        UserError: there is none.
    """
    from ear.errors import UserError

    records = known_jobs(root)
    for record in records:
        if job == record.id or job in record.tasks:
            return record
    known = ", ".join(record.id for record in records[:SHOWN]) or "none"
    raise UserError(
        f"No job {job} was submitted with the output root {root} (known: {known}). Name another root with --root."
    )
