"""The table of a sweep: text cells, what is best in each column, and the table as Markdown and as LaTeX."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import pandas as pd

from analysis.notation import latex_symbol, latex_text, markdown_text, symbol
from analysis.paper import PaperAblation
from analysis.statistics import OUTCOMES
from ear.errors import UserError
from sweeps.spec.metric import better
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
ARROWS = {"min": "↓", "max": "↑"}  # which way is better
LATEX_ARROWS = {"↓": r"$\downarrow$", "↑": r"$\uparrow$"}
IN_WORDS = {"pruned": "stopped early"}  # outcome -> how a table calls it
NOT_MEASURED = "n/a"

Best = Mapping[str, set[int]]  # metric -> numbers of the rows that are best or can't be told from it


@dataclass(frozen=True)
class Table:
    """A table of text cells."""

    cells: pd.DataFrame
    axes: Sequence[str] = ()  # dotted parameters; their columns come first
    metrics: Mapping[str, str] = field(default_factory=dict)  # heading -> metric, of columns with our own metrics
    best: Best = field(default_factory=dict)

    def heading(self, column: str) -> str:
        """Returns a column's heading with an arrow that tells which way is better."""
        metric = self.metrics.get(column)
        return f"{column} {ARROWS[better(metric)]}" if metric else column

    def is_best(self, row: int, column: str) -> bool:
        """Whether a cell is the best of its column, or can't be told from the best."""
        return row in self.best.get(self.metrics.get(column, ""), ())

    def only(self, metrics: Sequence[str]) -> "Table":
        """Returns the table with these metrics' columns only, in this order, and the paper's numbers for them.

        Raises:
            UserError: the table has no such metric.
        """
        require_columns(metrics)
        dropped = {heading for heading, metric in self.metrics.items() if metric not in metrics}
        dropped |= {f"{heading}, paper" for heading in dropped}
        kept = [column for column in self.cells if column not in dropped]
        order = [COLUMNS[metric][0] for metric in metrics]
        start = next((at for at, column in enumerate(kept) if column in order), len(kept))
        rest = [column for column in kept if column not in order]
        columns = [*rest[:start], *(column for column in order if column in kept), *rest[start:]]
        return replace(self, cells=self.cells[columns])


def require_columns(metrics: Sequence[str]) -> None:
    """Checks that tables have columns for these metrics.

    Raises:
        UserError: they have none for some.
    """
    if unknown := [name for name in metrics if name not in COLUMNS]:
        raise UserError(f"There is no column {', '.join(unknown)}; columns: {', '.join(COLUMNS)}.")


def ablation_table(summary: pd.DataFrame, axes: list[str], paper: PaperAblation | None, best: Best) -> Table:
    """Returns the table of a grid: a row for each of `summary`, the paper's numbers beside ours."""
    metrics = {heading: metric for metric, (heading, _) in COLUMNS.items()}
    return Table(display_table(summary, axes, paper), axes, metrics, best)


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
        return NOT_MEASURED if configuration["finished"] else how_it_ended(configuration)
    text = f"{value:.{decimals}f}" + ("" if pd.isna(interval) else f" ± {interval:.{decimals}f}")
    if metric == "fid" and (unfinished := unfinished_runs(configuration)):
        counts = (
            f"{count} of {configuration['runs']} {IN_WORDS.get(outcome, outcome)}"
            for outcome, count in unfinished.items()
        )
        text += f" ({', '.join(counts)})"
    return text


def unfinished_runs(configuration: pd.Series) -> dict[str, int]:
    """Returns the counts of a configuration's runs by outcome, of those that occur, without finished ones."""
    return {outcome: configuration[outcome] for outcome in OUTCOMES if outcome != "finished" and configuration[outcome]}


def how_it_ended(configuration: pd.Series) -> str:
    """Describes a configuration without a finished run: `failed`, or `1 stopped early, 2 failed` if its runs differ."""
    words = {outcome: IN_WORDS.get(outcome, outcome) for outcome in OUTCOMES}
    words["diverged"] = f"diverged at step {configuration['diverged_at']:.0f}"  # the earliest of several
    unfinished = unfinished_runs(configuration)
    if len(unfinished) == 1:
        return words[next(iter(unfinished))]
    return ", ".join(f"{count} {words[outcome]}" for outcome, count in unfinished.items())


def markdown(table: Table) -> str:
    """Returns a table as Markdown; the best cells are bold."""
    escaped = pd.DataFrame(
        {
            markdown_text(table.heading(column)): [
                f"**{markdown_text(text)}**" if table.is_best(row, column) else markdown_text(text)
                for row, text in enumerate(table.cells[column])
            ]
            for column in table.cells
        }
    )
    return str(escaped.to_markdown(index=False, disable_numparse=True, stralign="right"))


COLUMN_POINTS = 234  # width of a column of ICML's, NeurIPS' and the IEEE's two-column styles, at least
CHARACTER_POINTS = 4.3  # mean width of a character in \footnotesize
GAP_POINTS = 6  # between columns
NUMBER = re.compile(r"(?P<value>-?\d+(?:\.\d+)?)(?: ± (?P<interval>\d+(?:\.\d+)?))?(?P<note> \(.*\))?")
BOLD = "\\bfseries "
FIT = r"\resizebox{\ifdim\width>\linewidth \linewidth\else\width\fi}{!}{%"  # shrinks what is too wide
PREAMBLE = (
    r"% \usepackage{booktabs,graphicx,siunitx}  (siunitx 3)",
    r"\sisetup{separate-uncertainty, detect-weight, mode=text, table-align-text-after=false}",
)


def latex(table: Table, caption: str, label: str) -> str:
    """Returns a table as LaTeX, with booktabs and siunitx; the best cells are bold.

    It spans both columns of a two-column page if one is too narrow, and is made smaller if both are.
    """
    columns = list(table.cells)
    symbols = {symbol(axis, table.axes): latex_symbol(axis, table.axes) for axis in table.axes}
    headings = [f"{{{symbols.get(column) or latex_heading(table.heading(column))}}}" for column in columns]
    rows = [
        [latex_cell(table.cells[column].iloc[row], bold=table.is_best(row, column)) for column in columns]
        for row in range(len(table.cells))
    ]
    environment = "table" if printed_width(table) <= COLUMN_POINTS else "table*"
    return "\n".join(
        [
            PREAMBLE[0],
            rf"\begin{{{environment}}}[t]",
            r"\centering\footnotesize",
            PREAMBLE[1],
            rf"\setlength{{\tabcolsep}}{{{GAP_POINTS // 2}pt}}",
            rf"\caption{{{latex_text(caption)}}}",
            rf"\label{{{label}}}",
            FIT,
            rf"\begin{{tabular}}{{{''.join(column_format(table.cells[column]) for column in columns)}}}",
            r"\toprule",
            " & ".join(headings) + r" \\",
            r"\midrule",
            *(" & ".join(row) + r" \\" for row in rows),
            r"\bottomrule",
            r"\end{tabular}}",
            rf"\end{{{environment}}}",
            "",
        ]
    )


def latex_heading(text: str) -> str:
    """Returns a heading for LaTeX."""
    words = latex_text(text)
    for arrow, command in LATEX_ARROWS.items():
        words = words.replace(arrow, command)
    return words


def latex_cell(text: str, *, bold: bool) -> str:
    """Returns a cell: a number as siunitx reads it, other text in braces."""
    found = NUMBER.fullmatch(text)
    if found is None:
        return f"{{{latex_text(text)}}}"
    interval = rf" \pm {found['interval']}" if found["interval"] else ""
    note = f"{{{latex_text(found['note'])}}}" if found["note"] else ""
    return f"{BOLD if bold else ''}{found['value']}{interval}{note}"


def column_format(cells: pd.Series) -> str:
    """Returns a column's type: `S`, aligned at the decimal marker, if it has numbers with decimals, else `r`.

    The format has the longest text that follows a number, for which siunitx else leaves no room.
    """
    numbers = [found for found in map(NUMBER.fullmatch, cells) if found]
    values, intervals, notes = (
        [found[part] for found in numbers if found[part]] for part in ("value", "interval", "note")
    )
    if not any("." in value for value in values):
        return "r"
    uncertainty = f"({_digits(intervals)})" if intervals else ""
    sign = "-" if any(value.startswith("-") for value in values) else ""
    note = f"{{{latex_text(max(notes, key=len))}}}" if notes else ""
    return f"S[table-format={sign}{_digits(values)}{uncertainty}{note}]"


def _digits(numbers: Sequence[str]) -> str:
    """The most digits before and after the decimal point, as siunitx counts them: `2.2`."""
    parts = [number.lstrip("-").partition(".") for number in numbers]
    return f"{max(len(whole) for whole, _, _ in parts)}.{max(len(fraction) for _, _, fraction in parts)}"


def printed_width(table: Table) -> float:
    """Returns about how wide LaTeX sets the table, in points."""
    widest = [max(len(table.heading(column)), *map(len, table.cells[column]), 0) for column in table.cells]
    return sum(width * CHARACTER_POINTS + GAP_POINTS for width in widest)
