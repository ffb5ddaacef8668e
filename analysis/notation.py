"""The notation of a sweep's axes in tables and figures: the paper's symbols where there are any."""

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
    """Returns an axis' symbol in plain text; its short name if the paper has no symbol."""
    name = short_names(axes)[axis]
    return SYMBOLS.get(name, name)


def latex_symbol(axis: str, axes: Sequence[str]) -> str:
    """Returns an axis' symbol for LaTeX."""
    name = short_names(axes)[axis]
    return LATEX.get(name, latex_text(name))


def figure_symbol(axis: str, axes: Sequence[str]) -> str:
    """Returns an axis' symbol for matplotlib, which reads LaTeX between dollar signs and everything else literally."""
    name = short_names(axes)[axis]
    return LATEX.get(name, name)


def figure_value(value: Any) -> str:
    """Formats a value for matplotlib."""
    return shown(value).replace("$", r"\$")


# LaTeX's special characters; and `[`, which after the end of a row would start the optional row spacing.
LATEX_TEXT = str.maketrans(
    {each: rf"\{each}" for each in "%_&#{}$"}
    | {"±": r"$\pm$", "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "[": "{[}"}
)

# Starts of code, HTML, emphasis, a column, an entity or a link's address. A `_` inside a word is literal.
MARKDOWN = re.compile(r"[\\`*<|~]|(?<!\w)_|_(?!\w)|&(?=#?\w+;)|(?<=\])\(")


def latex_text(text: str) -> str:
    """Escapes plain text for LaTeX, in one line, since an empty line would start a paragraph."""
    return in_one_line(text).translate(LATEX_TEXT)


def markdown_text(text: str) -> str:
    """Escapes plain text for a cell of a Markdown table."""
    return MARKDOWN.sub(r"\\\g<0>", in_one_line(text))


def in_one_line(text: str) -> str:
    """Replaces line breaks by spaces."""
    return " ".join(text.split("\n"))
