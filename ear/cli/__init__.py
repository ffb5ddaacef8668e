"""The `ear` command line. Importing it loads only typer; each command imports what it needs when it runs."""

from ear.cli.main import main

__all__ = ["main"]
