"""The ablation table: Markdown and LaTeX to read, CSV to compute with."""

import pandas as pd

from analysis.notation import latex_symbol, symbol
from analysis.paper import PaperAblation
from sweeps.runs import shown

# metric -> heading, decimals
COLUMNS = {
    "fid": ("FID", 2),
    "is": ("IS", 2),
    "precision": ("precision", 3),
    "recall": ("recall", 3),
    "fid_null": ("FID, no label", 1),
    "is_null": ("IS, no label", 2),
}


def display_table(summary: pd.DataFrame, axes: list[str], paper: PaperAblation | None) -> pd.DataFrame:
    """Text cells: ours with its interval where there are seeds, then the paper's."""
    rows = []
    for _, configuration in summary.astype(object).iterrows():  # whole numbers stay whole
        row = {symbol(axis): shown(configuration[axis]) for axis in axes}
        for metric, (heading, decimals) in COLUMNS.items():
            row[heading] = cell(configuration, metric, decimals)
        if paper:
            for metric in paper.printed:
                row[f"{COLUMNS[metric][0]}, paper"] = paper.text(metric, configuration[axes[0]]) or ""
        rows.append(row)
    return pd.DataFrame(rows)


def cell(configuration: pd.Series, metric: str, decimals: int) -> str:
    """`12.34 ± 0.56`, without the interval for one seed; where nothing finished, when it diverged.

    FID, the first column, also says how many of a configuration's seeds diverged: the mean is over the others.
    """
    value, interval = configuration[metric], configuration[f"{metric}_ci"]
    if pd.isna(value):
        diverged_at = configuration["diverged_at"]
        return "not measured" if pd.isna(diverged_at) else f"diverged at step {diverged_at:.0f}"
    text = f"{value:.{decimals}f}" + ("" if pd.isna(interval) else f" ± {interval:.{decimals}f}")
    if metric == "fid" and configuration["diverged"]:
        text += f" ({configuration['diverged']:.0f} of {configuration['runs']:.0f} diverged)"
    return text


def markdown(table: pd.DataFrame) -> str:
    return str(table.to_markdown(index=False, disable_numparse=True, stralign="right"))


def latex(table: pd.DataFrame, axes: list[str], caption: str, label: str) -> str:
    """A booktabs table."""
    renamed = table.rename(columns={symbol(axis): latex_symbol(axis) for axis in axes})
    renamed = renamed.map(latex_text)
    return str(
        renamed.to_latex(
            index=False,
            escape=False,
            column_format="r" * len(table.columns),
            caption=latex_text(caption),
            label=label,
        )
    )


def latex_text(text: str) -> str:
    """Plain text as LaTeX: what the program writes holds none of its other special characters."""
    for plain, escaped in (("%", r"\%"), ("_", r"\_"), ("&", r"\&"), ("#", r"\#"), ("±", r"$\pm$")):
        text = text.replace(plain, escaped)
    return text
