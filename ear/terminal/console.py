"""Where tables, trees and lines for people go: what stands in them is text, and never markup.

Names, paths and values come from users: `x=[red]` is a value, and `[/b]` would end a program that took it for markup.
What is to have a colour is a `rich.text.Text` with a style. Control characters are written out in both.
"""

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from ear.terminal.printable import printable


class Terminal(Console):
    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """Every string that is printed or measured comes by here, cells of tables too."""
        return super().render_str(printable(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Whatever is printed comes by here, and so do its parts: each `Text`, also of rich's own bars and titles."""
        if isinstance(renderable, Text) and (written := printable(renderable.plain)) != renderable.plain:
            renderable = renderable.blank_copy(written)  # the colours of its parts would lie elsewhere
        return super().render(renderable, options)


def terminal(*, stderr: bool = False) -> Console:
    return Terminal(stderr=stderr)
