"""Builds the command line out of this package's commands and those that other packages register."""

import os
import shlex
import sys
import traceback
import warnings
from importlib.metadata import entry_points
from typing import Any

import typer

from ear.cli.convert import convert
from ear.cli.encode import encode
from ear.cli.evaluate import evaluate
from ear.cli.info import info
from ear.cli.sample import sample
from ear.cli.schema import schema
from ear.cli.store import app as store
from ear.cli.train import train
from ear.errors import UserError
from ear.terminal.credentials import hidden
from ear.terminal.printable import printable

SUCCESS, FAILURE, WRONG_INPUT, INTERRUPTED = 0, 1, 2, 130

app = typer.Typer(
    name="ear",
    help="Energy-based AutoRegression: train, sample and evaluate continuous autoregressive image models, "
    "and run the ablation sweeps of such a paper.",
    epilog="""\b
First steps:
  ear sweep run sweeps/quickstart.yaml
  ear report quickstart
  ear ui

Exit codes: 0 done, 1 failed, 2 wrong input, 130 interrupted. With --debug, errors show their traceback.
""",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich draws prettier help, for 0.1 s of imports
)
for command in (train, sample, evaluate, encode, info, convert, schema):
    app.command()(command)
app.add_typer(store, name="store")


def add_registered_commands() -> None:
    """Adds what packages register under `ear.commands`: a typer app as a group, a function as a command."""
    for entry in sorted(entry_points(group="ear.commands"), key=lambda entry: entry.name):
        loaded: Any = entry.load()
        if isinstance(loaded, typer.Typer):
            app.add_typer(loaded, name=entry.name)
        else:
            app.command(name=entry.name)(loaded)


def main() -> None:
    """Runs the command line and exits; what a user did wrong is one message, never a traceback."""
    arguments = sys.argv[1:]
    debug = "--debug" in arguments  # wherever it stands
    warnings.showwarning = show_warning  # type: ignore[assignment]
    add_registered_commands()
    try:
        app(args=[argument for argument in arguments if argument != "--debug"], prog_name="ear")
    except SystemExit as end:
        if end.code == INTERRUPTED:  # what typer makes of a KeyboardInterrupt
            print(f"Interrupted. Go on with:  {shlex.join(['ear', *arguments])}", file=sys.stderr)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(INTERRUPTED)  # everything is closed; Python would search all of torch for garbage, for two seconds
        raise
    except UserError as error:
        fail(str(error), WRONG_INPUT, debug)
    except Exception as error:
        if ran_out_of_memory(error):
            fail(f"{OUT_OF_MEMORY} ({str(error).splitlines()[0]})", FAILURE, debug)
        fail(f"{type(error).__name__}: {error}\nThis is a fault of the program; --debug shows where.", FAILURE, debug)


def fail(message: str, code: int, debug: bool) -> None:
    if debug:
        print(printable(hidden(traceback.format_exc())), end="", file=sys.stderr)
    print(f"error: {printable(hidden(message))}", file=sys.stderr)
    sys.exit(code)


OUT_OF_MEMORY = (
    "Out of memory. In training, lower execution.micro_batch (the result is as good) or set "
    "execution.activation_checkpointing=true; in sampling and evaluation, lower execution.batch_size."
)


def ran_out_of_memory(error: Exception) -> bool:
    # torch is not imported here, so its error is known by name; on a CPU it is a RuntimeError of the allocator.
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or any(phrase in str(error) for phrase in ("can't allocate memory", "Storage size calculation overflowed"))
    )


def show_warning(message: Warning | str, category: type[Warning], *_: Any) -> None:
    """Warnings meant for the user as one line; those of libraries about themselves not at all."""
    if category is UserWarning:
        print(f"warning: {printable(hidden(str(message)))}", file=sys.stderr)
