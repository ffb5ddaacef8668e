"""Says how a sweep, or a suite of them, ended, and ends the command with it."""

from collections.abc import Mapping

import typer

from ear.terminal.credentials import hidden
from ear.terminal.printable import printable


def say_outcome(done: int, reused: int, failed: Mapping[str, str], stopped: str | None) -> None:
    """Prints what failed, why it stopped early, or what was done; the arguments are as in `SweepOutcome`.

    Raises:
        KeyboardInterrupt: it was interrupted; the command line says how to resume.
        typer.Exit: it stopped early, or runs failed; with exit code 1.
    """
    for label, traceback in failed.items():
        typer.echo(printable(hidden(f"failed: {label}\n{traceback}")), err=True)
    if stopped == "interrupted":
        raise KeyboardInterrupt
    if stopped is not None:
        typer.echo(f"Stopped: {stopped}. Finished work is kept; the same command resumes.", err=True)
        raise typer.Exit(1)
    if failed:
        typer.echo(f"{len(failed)} runs failed; run the same command again to retry them.", err=True)
        raise typer.Exit(1)
    typer.echo(f"{done} runs done now, {reused} were already in the store.")
