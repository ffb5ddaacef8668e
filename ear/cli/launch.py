"""Commands that can run elsewhere: on the machines that a launcher, such as SLURM's, gets for them.

A package registers its launcher under `ear.launchers` by the name of its option, `--slurm`. It gets the command line as
it was given, less the options that belong to launching.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any

import typer

from ear.errors import UserError

Slurm = Annotated[
    str | None,
    typer.Option(
        "--slurm", metavar="PROFILE", help="Run it as a SLURM job: a profile's name or YAML (docs/cluster.md)."
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="With --slurm: only print the job's script and SLURM's opinion.")
]
Follow = Annotated[bool, typer.Option("--follow", help="With --slurm: stay, and show how the job gets on.")]
OPTIONS = ("slurm", "dry_run", "follow")  # parameters of these types


@dataclass(frozen=True)
class Launch:
    """A command that is to run elsewhere."""

    kind: str  # sweep, train, evaluate or encode
    name: str  # of what is run
    arguments: tuple[str, ...]  # of `ear`, its output root among them
    root: Path
    cache: Path | None  # a folder of latents that it fills
    inputs: tuple[Path, ...]  # YAML files that it reads: arguments, or named in one
    profile: str
    dry_run: bool
    follow: bool


def launched(
    context: typer.Context,
    kind: str,
    name: str,
    slurm: str | None,
    dry_run: bool,
    follow: bool,
    cache: Path | None = None,
    inputs: Sequence[Path] = (),
) -> bool:
    """Hands the running command over to a launcher where one was asked for; says whether one was.

    Raises:
        UserError: the launcher is not installed, or refuses.
    """
    if slurm is None:
        if dry_run or follow:
            raise UserError("--dry-run and --follow belong to --slurm PROFILE.")
        return False
    found = [entry for entry in entry_points(group="ear.launchers") if entry.name == "slurm"]
    if not found:
        raise UserError("This needs the slurm package of this project: pip install 'ear[slurm]'.")
    root = Path(context.params.get("root") or os.environ.get("EAR_ROOT") or "runs").absolute()
    launch: Any = found[0].load()
    launch(Launch(kind, name, command_line(context, root), root, cache, tuple(inputs), slurm, dry_run, follow))
    return True


def command_line(context: typer.Context, root: Path) -> tuple[str, ...]:
    """The arguments that led to this context, without those of launching; where results go is named absolutely."""
    names: list[str] = []
    outer: Any = context
    while outer is not None and outer.parent is not None:
        names.insert(0, outer.info_name or "")
        outer = outer.parent
    positional, options = [], []
    for parameter in context.command.params:
        value = root if parameter.name == "root" else context.params[parameter.name or ""]
        if parameter.name in OPTIONS or value is None or value is False:
            continue
        if parameter.param_type_name == "argument":
            positional.append(str(value))
        elif value is True:
            options.append(parameter.opts[0])
        else:
            for each in value if isinstance(value, list | tuple) else [value]:
                options += [parameter.opts[0], str(each)]
    return (*names, *positional, *options)
