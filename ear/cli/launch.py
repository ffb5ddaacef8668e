"""Commands that a launcher, such as SLURM's, can run on other machines.

A package registers its launcher in the entry point group `ear.launchers` under the name of its option, here `slurm`.
The launcher gets the command line without the launch options.
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
        "--slurm", metavar="PROFILE", help="Run as a SLURM job: a profile's name or YAML file (docs/cluster.md)."
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="With --slurm: only print the job script and SLURM's verdict on it.")
]
Follow = Annotated[bool, typer.Option("--follow", help="With --slurm: wait, and show the job's progress.")]
OPTIONS = ("slurm", "dry_run", "follow")  # names of the launch options' parameters


@dataclass(frozen=True)
class Launch:
    """A command to run on other machines."""

    kind: str  # sweep, train, evaluate or encode
    name: str  # of the sweep, configuration or checkpoint
    arguments: tuple[str, ...]  # of `ear`, including its output root
    root: Path
    cache: Path | None  # the folder of latents that it writes
    inputs: tuple[Path, ...]  # YAML files that it reads
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
    arguments: Sequence[str] = (),
) -> bool:
    """Hand the running command, or the one with these `arguments`, to the launcher if `--slurm` is given.

    Returns:
        Whether it was given.

    Raises:
        UserError: the launcher is not installed or refuses, or a launch option is given without `--slurm`.
    """
    if slurm is None:
        if dry_run or follow:
            raise UserError("--dry-run and --follow need --slurm PROFILE.")
        return False
    found = [entry for entry in entry_points(group="ear.launchers") if entry.name == "slurm"]
    if not found:
        raise UserError("--slurm needs the slurm package of this project: pip install 'ear[slurm]'.")
    root = Path(context.params.get("root") or os.environ.get("EAR_ROOT") or "runs").absolute()
    launch: Any = found[0].load()
    line = tuple(arguments) or command_line(context, root)
    launch(Launch(kind, name, line, root, cache, tuple(inputs), slurm, dry_run, follow))
    return True


def command_line(context: typer.Context, root: Path) -> tuple[str, ...]:
    """Return the arguments that produced this context, without launch options and with an absolute output root."""
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
