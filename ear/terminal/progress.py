"""The bar that everything long shows on stderr."""

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ear.terminal.console import terminal


def progress_bar(disable: bool = False) -> Progress:
    """Description, bar, count, whatever the task's `note` says, and the time remaining."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        TimeRemainingColumn(),
        console=terminal(stderr=True),
        disable=disable,
    )
