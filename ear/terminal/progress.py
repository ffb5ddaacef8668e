"""The progress bar for long operations, on stderr."""

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ear.terminal.console import terminal


def progress_bar(disable: bool = False) -> Progress:
    """A progress bar with description, count, the task's `note` and the remaining time."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        TimeRemainingColumn(),
        console=terminal(stderr=True),
        disable=disable,
    )
