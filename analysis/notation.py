"""How tables and figures write a sweep's axes: by the paper's symbols where it has them."""

import re
from collections.abc import Sequence
from typing import Any

from sweeps.spec.naming import short_names, shown

SYMBOLS = {"alpha": "α", "train_temperature": "τ_train", "infer_temperature": "τ_infer"}
LATEX = {
    "alpha": r"$\alpha$",
    "train_temperature": r"$\tau_\mathrm{train}$",
    "infer_temperature": r"$\tau_\mathrm{infer}$",
}


def symbol(axis: str, axes: Sequence[str]) -> str:
    """Of one of these dotted parameters, in plain text; its short name where the paper has no symbol."""
    name = short_names(axes)[axis]
    return SYMBOLS.get(name, name)


def latex_symbol(axis: str, axes: Sequence[str]) -> str:
    """Of one of these dotted parameters, for LaTeX."""
    name = short_names(axes)[axis]
    return LATEX.get(name, latex_text(name))


def figure_symbol(axis: str, axes: Sequence[str]) -> str:
    """Of one of these dotted parameters, for matplotlib, which reads LaTeX between dollars and takes all else
    literally."""
    name = short_names(axes)[axis]
    return LATEX.get(name, name)


def figure_value(value: Any) -> str:
    """A value as `shown`, for matplotlib."""
    return shown(value).replace("$", r"\$")


# All that LaTeX reads as its own in a text; and `[`, which behind the end of a row would be how far the next one is.
LATEX_TEXT = str.maketrans(
    {each: rf"\{each}" for each in "%_&#{}$"}
    | {"±": r"$\pm$", "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "[": "{[}"}
)

# What begins code, HTML, emphasis, a column, an entity or the address of a link. A `_` inside a word is one.
MARKDOWN = re.compile(r"[\\`*<|~]|(?<!\w)_|_(?!\w)|&(?=#?\w+;)|(?<=\])\(")


def latex_text(text: str) -> str:
    """Plain text as LaTeX, in one line: an empty one would begin a paragraph."""
    return in_one_line(text).translate(LATEX_TEXT)


def markdown_text(text: str) -> str:
    """Plain text as a cell of a Markdown table."""
    return MARKDOWN.sub(r"\\\g<0>", in_one_line(text))


def in_one_line(text: str) -> str:
    return " ".join(text.split("\n"))
