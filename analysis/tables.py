"""The ablation table as text cells, Markdown and LaTeX."""

import pandas as pd

from analysis.notation import latex_symbol, latex_text, markdown_text, symbol
from analysis.paper import PaperAblation
from analysis.statistics import OUTCOMES
from sweeps.spec.naming import shown

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
    """Returns text cells: our metrics, with an interval if there are several seeds, then the paper's."""
    rows = []
    for _, configuration in summary.astype(object).iterrows():  # as objects, so that integers stay integers
        row = {symbol(axis, axes): shown(configuration[axis]) for axis in axes}
        for metric, (heading, decimals) in COLUMNS.items():
            row[heading] = cell(configuration, metric, decimals)
        if paper:
            for metric in paper.printed:
                row[f"{COLUMNS[metric][0]}, paper"] = paper.text(metric, configuration[axes[0]]) or ""
        rows.append(row)
    return pd.DataFrame(rows)


def cell(configuration: pd.Series, metric: str, decimals: int) -> str:
    """Formats a metric: `12.34 ± 0.56`, without the interval for one seed; if no run finished, how they ended.

    FID, the first column, also tells how many of the seeds did not finish and how they ended, since the mean is over
    the others.
    """
    value, interval = configuration[metric], configuration[f"{metric}_ci"]
    if pd.isna(value):
        return "not measured" if configuration["finished"] else how_it_ended(configuration)
    text = f"{value:.{decimals}f}" + ("" if pd.isna(interval) else f" ± {interval:.{decimals}f}")
    if metric == "fid" and (unfinished := unfinished_runs(configuration)):
        counts = (f"{count} of {configuration['runs']} {outcome}" for outcome, count in unfinished.items())
        text += f" ({', '.join(counts)})"
    return text


def unfinished_runs(configuration: pd.Series) -> dict[str, int]:
    """Returns the counts of a configuration's runs by outcome, of those that occur, without finished ones."""
    return {outcome: configuration[outcome] for outcome in OUTCOMES if outcome != "finished" and configuration[outcome]}


def how_it_ended(configuration: pd.Series) -> str:
    """Describes a configuration without a finished run: `pruned`, or `1 pruned, 2 failed` if its runs differ."""
    words = {outcome: outcome for outcome in OUTCOMES}
    words["diverged"] = f"diverged at step {configuration['diverged_at']:.0f}"  # the earliest of several
    unfinished = unfinished_runs(configuration)
    if len(unfinished) == 1:
        return words[next(iter(unfinished))]
    return ", ".join(f"{count} {words[outcome]}" for outcome, count in unfinished.items())


def markdown(table: pd.DataFrame) -> str:
    """Returns a table as Markdown."""
    escaped = table.map(markdown_text)
    return str(escaped.to_markdown(index=False, disable_numparse=True, stralign="right"))


def latex(table: pd.DataFrame, axes: list[str], caption: str, label: str) -> str:
    """Returns a table as a LaTeX booktabs table."""
    renamed = table.rename(columns={symbol(axis, axes): latex_symbol(axis, axes) for axis in axes})
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
