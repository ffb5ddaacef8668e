"""How the paper writes its parameters."""

from sweeps.runs import short_name

SYMBOLS = {"alpha": "α", "train_temperature": "τ_train", "infer_temperature": "τ_infer"}
LATEX = {
    "alpha": r"$\alpha$",
    "train_temperature": r"$\tau_\mathrm{train}$",
    "infer_temperature": r"$\tau_\mathrm{infer}$",
}


def symbol(parameter: str) -> str:
    """Of a dotted parameter, in plain text; its last name where the paper has no symbol."""
    name = short_name(parameter)
    return SYMBOLS.get(name, name)


def latex_symbol(parameter: str) -> str:
    """Of a dotted parameter, for LaTeX."""
    name = short_name(parameter)
    return LATEX.get(name, name.replace("_", r"\_"))


def figure_symbol(parameter: str) -> str:
    """Of a dotted parameter, for matplotlib, which reads LaTeX between dollars and takes all else literally."""
    name = short_name(parameter)
    return LATEX.get(name, name)
