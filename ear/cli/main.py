"""The command line: this package's commands and those that other packages register."""

import os
import shlex
import sys
import traceback
import warnings
from importlib.metadata import entry_points, version
from typing import Annotated, Any

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

WIDEST_HELP = 140  # columns of `--help` on a wide terminal

app = typer.Typer(
    name="ear",
    help="Energy-based AutoRegression: train, sample and evaluate continuous autoregressive image models, "
    "and run the ablation sweeps of such a paper.",
    epilog="""\b
First steps:
  ear sweep run sweeps/quickstart.yaml
  ear report quickstart
  ear ui

Exit codes: 0 done, 1 failed, 2 wrong input, 130 interrupted. --debug adds the traceback to an error.
""",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich's help is prettier but costs 0.1 s of imports
    context_settings={"max_content_width": WIDEST_HELP},  # click's own limit is 80
)


def show_version(asked: bool) -> None:
    """Print the version, and the commit of a checkout, and exit, if asked."""
    if asked:
        from ear.process.provenance import git_commit

        commit = git_commit()
        print(f"ear {version('ear')}" + (f", commit {commit}" if commit else ""))
        raise typer.Exit


@app.callback()
def common(
    _: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=show_version, is_eager=True)
    ] = False,
) -> None:
    """Options before the command."""


for command in (train, sample, evaluate, encode, info, convert, schema):
    app.command()(command)
app.add_typer(store, name="store")


def add_registered_commands() -> None:
    """Add what packages register in the entry point group `ear.commands`: a typer app as a group, else a command."""
    for entry in sorted(entry_points(group="ear.commands"), key=lambda entry: entry.name):
        loaded: Any = entry.load()
        if isinstance(loaded, typer.Typer):
            app.add_typer(loaded, name=entry.name)
        else:
            app.command(name=entry.name)(loaded)


def main() -> None:
    """Run the command line and exit. A user error prints one message and no traceback."""
    arguments = sys.argv[1:]
    debug = "--debug" in arguments  # at any position
    warnings.showwarning = show_warning  # type: ignore[assignment]
    add_registered_commands()
    try:
        app(args=[argument for argument in arguments if argument != "--debug"], prog_name="ear")
    except SystemExit as end:
        if end.code == INTERRUPTED:  # typer turns a KeyboardInterrupt into this
            print(f"Interrupted. Resume with:  {shlex.join(['ear', *arguments])}", file=sys.stderr)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(INTERRUPTED)  # all files are closed; a normal exit would collect torch's garbage for two seconds
        raise
    except UserError as error:
        fail(str(error), WRONG_INPUT, debug)
    except Exception as error:
        if ran_out_of_memory(error):
            fail(f"{OUT_OF_MEMORY} ({str(error).splitlines()[0]})", FAILURE, debug)
        fail(f"{type(error).__name__}: {error}\nThis is a bug in the program; --debug shows where.", FAILURE, debug)


def fail(message: str, code: int, debug: bool) -> None:
    """Print an error, with its traceback if `debug`, and exit with `code`."""
    if debug:
        print(printable(hidden(traceback.format_exc())), end="", file=sys.stderr)
    print(f"error: {printable(hidden(message))}", file=sys.stderr)
    sys.exit(code)


OUT_OF_MEMORY = (
    "Out of memory. In training, lower execution.micro_batch (the result is equally good) or set "
    "execution.activation_checkpointing=true; in sampling and evaluation, lower execution.batch_size."
)


def ran_out_of_memory(error: Exception) -> bool:
    """Whether an error is Python's or torch's way of running out of memory, on a CPU or a GPU."""
    # torch may not be imported, so its error is matched by name; on a CPU it is a RuntimeError of the allocator.
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or any(phrase in str(error) for phrase in ("can't allocate memory", "Storage size calculation overflowed"))
    )


def show_warning(message: Warning | str, category: type[Warning], *_: Any) -> None:
    """Print a warning meant for the user (a UserWarning) as one line; drop the warnings of libraries."""
    if category is UserWarning:
        print(f"warning: {printable(hidden(str(message)))}", file=sys.stderr)
