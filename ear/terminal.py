"""Where tables, trees and lines for people go: what stands in them is text, and never markup.

Names, paths and values come from users: `x=[red]` is a value, and `[/b]` would end a program that took it for markup.
What is to have a colour is a `rich.text.Text` with a style.
"""

from typing import Any

from rich.console import Console
from rich.text import Text

from ear.printable import printable


class Terminal(Console):
    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """Every text that is printed comes by here, cells of tables too."""
        return super().render_str(printable(text), **options)


def terminal(*, stderr: bool = False) -> Console:
    return Terminal(stderr=stderr)
