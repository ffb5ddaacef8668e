"""The `ear` command. Importing it costs no more than typer: each command imports what it needs when it is called."""

from ear.cli.main import main

__all__ = ["main"]
