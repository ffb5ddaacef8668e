"""ear slurm, and what `--slurm` does."""

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

app = typer.Typer(help="The SLURM jobs that --slurm submitted: how they get on, what they print.", no_args_is_help=True)

JobName = Annotated[str, typer.Argument(metavar="JOB", help="A job's id, as `ear slurm status` shows it.")]
SHOWN = 10  # submissions


def launch(order: Launch) -> None:
    """Submits a command that was called with --slurm.

    Raises:
        UserError: the profile is wrong, there is no SLURM here (a dry run needs none), or it refuses the job.
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
            print("\n# There is no SLURM here (no sbatch), so it was not asked what it says of this.")
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
    print(f"Ctrl-C stops watching; the job goes on. `ear slurm cancel {record.id}{at_root}` ends it.", flush=True)
    if not follow(record, terminal()):
        raise typer.Exit(1)


@app.command()
def status(root: Root = DEFAULT_ROOT, as_json: Json = False) -> None:
    """Show the newest submissions and the state of their jobs: where they run, or why they wait.

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
        console.print(f"Nothing was submitted with the output root {root}.")


@app.command()
def logs(
    job: JobName,
    root: Root = DEFAULT_ROOT,
    lines: Annotated[int, typer.Option(min=1, help="How many of the last lines, without --follow.")] = 40,
    rank: Annotated[int, typer.Option(min=0, help="Of which of the job's tasks.")] = 0,
    stay: Annotated[bool, typer.Option("--follow", help="Stay, and print what comes.")] = False,
) -> None:
    """Print the last lines of a job's log, and where it is.

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
            print("Nothing yet: the job has not begun; `ear slurm status` says why.")


@app.command()
def cancel(job: JobName, root: Root = DEFAULT_ROOT) -> None:
    """End a job: its command saves what it has, as at Ctrl-C.

    Example:  ear slurm cancel 1234
    """
    from slurm import queue

    record = find_job(root, job)
    queue.cancel(job)
    print(f"Job {job} saves what it has and ends. Go on with:  {record.command} --slurm {record.profile}")


def known_jobs(root: Path) -> list["JobRecord"]:
    """What was submitted with this output root, newest first."""
    from ear.errors import import_extra

    import_extra("submitit", "slurm")
    from slurm.submission import RECORD, JobRecord

    records = [JobRecord.load(path) for path in (root / "slurm").glob(f"*/{RECORD}")]
    return sorted(records, key=lambda record: (record.submitted, int(record.id)), reverse=True)


def find_job(root: Path, job: str) -> "JobRecord":
    """
    Raises:
        UserError: there is none with this id.
    """
    from ear.errors import UserError

    records = known_jobs(root)
    for record in records:
        if job == record.id or job in record.tasks:
            return record
    known = ", ".join(record.id for record in records[:SHOWN]) or "none"
    raise UserError(
        f"No job {job} was submitted with the output root {root}; there is {known}. Name another by --root."
    )
