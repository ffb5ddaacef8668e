"""A rich console that prints strings as plain text, never as markup.

Names, paths and values come from users: `x=[red]` is a value, and interpreting `[/b]` as markup would raise an error.
For colours, use a `rich.text.Text` with a style. Control characters are escaped in both.
"""

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from ear.terminal.printable import printable


class Terminal(Console):
    """A console without markup, emoji codes and highlighting, which escapes control characters."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """Convert a string to text. rich calls this for every string, including table cells."""
        return super().render_str(printable(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render an object. rich calls this for everything that is printed, including each `Text` inside it."""
        if isinstance(renderable, Text) and (written := printable(renderable.plain)) != renderable.plain:
            renderable = renderable.blank_copy(written)  # the styles of its parts would be at wrong positions
        return super().render(renderable, options)


def terminal(*, stderr: bool = False) -> Console:
    """A console for stdout or stderr."""
    return Terminal(stderr=stderr)
