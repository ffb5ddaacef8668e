"""The ablation table: Markdown and LaTeX to read, CSV to compute with."""

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
    """Text cells: ours with its interval where there are seeds, then the paper's."""
    rows = []
    for _, configuration in summary.astype(object).iterrows():  # whole numbers stay whole
        row = {symbol(axis, axes): shown(configuration[axis]) for axis in axes}
        for metric, (heading, decimals) in COLUMNS.items():
            row[heading] = cell(configuration, metric, decimals)
        if paper:
            for metric in paper.printed:
                row[f"{COLUMNS[metric][0]}, paper"] = paper.text(metric, configuration[axes[0]]) or ""
        rows.append(row)
    return pd.DataFrame(rows)


def cell(configuration: pd.Series, metric: str, decimals: int) -> str:
    """`12.34 ± 0.56`, without the interval for one seed; where nothing finished, how it ended instead.

    FID, the first column, also says how many of a configuration's seeds did not finish, and how they ended: the mean is
    over the others.
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
    """How many runs of a configuration had each of the outcomes that leave no numbers; only those that occurred."""
    return {outcome: configuration[outcome] for outcome in OUTCOMES if outcome != "finished" and configuration[outcome]}


def how_it_ended(configuration: pd.Series) -> str:
    """Of a configuration without a finished run: `pruned`, or where its runs differ, `1 pruned, 2 failed`."""
    words = {outcome: outcome for outcome in OUTCOMES}
    words["diverged"] = f"diverged at step {configuration['diverged_at']:.0f}"  # of several, the first to
    unfinished = unfinished_runs(configuration)
    if len(unfinished) == 1:
        return words[next(iter(unfinished))]
    return ", ".join(f"{count} {words[outcome]}" for outcome, count in unfinished.items())


def markdown(table: pd.DataFrame) -> str:
    escaped = table.map(markdown_text)
    return str(escaped.to_markdown(index=False, disable_numparse=True, stralign="right"))


def latex(table: pd.DataFrame, axes: list[str], caption: str, label: str) -> str:
    """A booktabs table."""
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
