"""The spinner for a slow step, on stderr."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.text import Text

from ear.terminal.console import terminal


@contextmanager
def waiting_for(what: str) -> Iterator[None]:
    """Show a spinner with this text on a terminal, and print a line elsewhere, while a slow step runs."""
    console = terminal(stderr=True)
    if console.is_terminal:
        with console.status(Text(what)):
            yield
    else:
        console.print(f"{what} ...", soft_wrap=True)
        yield
