"""How tables and figures write a sweep's axes: by the paper's symbols where it has them."""

from collections.abc import Sequence
from typing import Any

from sweeps.naming import short_names, shown

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
    return LATEX.get(name, name.replace("_", r"\_"))


def figure_symbol(axis: str, axes: Sequence[str]) -> str:
    """Of one of these dotted parameters, for matplotlib, which reads LaTeX between dollars and takes all else
    literally."""
    name = short_names(axes)[axis]
    return LATEX.get(name, name)


def figure_value(value: Any) -> str:
    """A value as `shown`, for matplotlib."""
    return shown(value).replace("$", r"\$")
