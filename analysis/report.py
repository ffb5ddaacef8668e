"""Writes a sweep's report: table, figure, samples and findings, with the evaluation conditions."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.axis_values import as_csv
from analysis.best_rows import best_rows, bold_note
from analysis.conditions import describe, differing
from analysis.effects import GUIDANCE, best_guidance_table, main_effects_table
from analysis.findings import findings
from analysis.paper import PaperAblation, paper_ablation
from analysis.plots.report_plots import CAPTIONS, FOLDER, remove_plots, save_plots, why_no_figure
from analysis.plots.saving import SavedPlot
from analysis.results import METRICS, SweepResults
from analysis.search import ranked, search_findings, search_table
from analysis.sound_results import sound_results
from analysis.statistics import seed_range, summarise
from analysis.tables import COLUMNS, Table, ablation_table, latex, markdown, require_columns
from analysis.variance import variance_words
from ear.files.writing import may_write, require_writable, write_text
from ear.store import Store
from ear.store.uses import record_use

LATEX_COLUMNS = ("fid", "is", "precision", "recall")


@dataclass(frozen=True)
class Layout:
    """What a user wants of a report's tables.

    Raises:
        UserError: tables have no such column.
    """

    columns: Sequence[str] = ()  # metrics; by default all, and in LaTeX those of LATEX_COLUMNS
    caption: str = ""  # of the LaTeX table; by default what the numbers were measured on

    def __post_init__(self) -> None:
        require_columns(self.columns)


@dataclass(frozen=True)
class NamedTable:
    """A further table of a report."""

    title: str
    table: Table
    note: str


@dataclass(frozen=True)
class Contents:
    """What a report says."""

    summary: pd.DataFrame  # a row per configuration, in the order of the table
    table: Table
    caption: str  # what the numbers were measured on
    note: str  # on the table's notation
    findings: str
    paper: PaperAblation | None
    more: Sequence[NamedTable] = ()  # of a grid with several axes

    def text(self, layout: Layout) -> str:
        """Returns the table as Markdown."""
        return markdown(self.table.only(layout.columns) if layout.columns else self.table)

    @property
    def paper_note(self) -> str:
        """Says what the paper's numbers were measured on; empty if there are none."""
        return f"Paper: {self.paper.setting}." if self.paper else ""


@dataclass(frozen=True)
class Report:
    """A written report."""

    folder: Path
    results: SweepResults
    contents: Contents
    layout: Layout
    plots: list[SavedPlot]
    files: list[Path]

    @property
    def table(self) -> str:
        """The table as Markdown."""
        return self.contents.text(self.layout)

    @property
    def caption(self) -> str:
        """What the numbers were measured on, and what the table's notation means."""
        return f"{self.contents.caption} {self.contents.note}".strip()

    @property
    def findings(self) -> str:
        """What the numbers show, and what they leave open."""
        return self.contents.findings

    @property
    def incomplete(self) -> str:
        """What the sweep still lacks; empty if nothing."""
        return self.results.incomplete


def write_report(name: str, root: Path, out: Path | None = None, layout: Layout = Layout()) -> Report:
    """Writes the report of the sweep of this name that ran last, as `write_reports`."""
    return write_reports([name], root, out, layout)[0]


def write_reports(names: Sequence[str], root: Path, out: Path | None = None, layout: Layout = Layout()) -> list[Report]:
    """Writes the reports of the sweeps of these names that ran last; none if the results of one can't be reported.

    Args:
        names: the sweeps' names.
        root: the output root.
        out: the folder to write to, of several sweeps to OUT/NAME; by default ROOT/NAME/report, or a temporary folder
            if that one is read-only.
        layout: what the tables show.

    Raises:
        UserError: a sweep is unknown, none of its runs has ended, its results were damaged or not measured alike, or a
            folder can't be written.
    """
    sweeps = [sound_results(name, root) for name in dict.fromkeys(names)]
    said = [contents_of(results) for results in sweeps]
    reports = []
    for results, contents in zip(sweeps, said, strict=True):
        folder = writable_folder(results, root, out / results.name if out and len(sweeps) > 1 else out)
        # With what is missing first, since a caption goes with a figure wherever that is copied to.
        caption = f"{results.incomplete} {contents.caption}".strip()
        files = write_tables(folder, results, contents, layout)
        plots = save_plots(folder, results, contents.summary, contents.paper, caption, Store(root, reading=True))
        drawn = [file for plot in plots for file in plot.files]
        captions = [folder / FOLDER / CAPTIONS] if plots else []
        reports.append(Report(folder, results, contents, layout, plots, [*files, *drawn, *captions]))
    return reports


def writable_folder(results: SweepResults, root: Path, out: Path | None) -> Path:
    """Returns the folder for a report, without the previous report's pictures, and records what the report needs.

    Raises:
        UserError: `out` can't be written.
    """
    folder = root / results.name / "report" if out is None else out
    if out is None and not may_write(folder):  # an archive or another user's results
        return Path(tempfile.mkdtemp(prefix=f"ear-report-{results.name}-"))
    require_writable(folder, "--out DIR")
    if may_write(root):
        record_use(Store(root), f"report {results.name}", results.rests_on)
    remove_plots(folder, [results.axes, *results.earlier])
    return folder


def contents_of(results: SweepResults) -> Contents:
    """Returns what a report on these results says."""
    summary = summarise(results.frame, results.axes, METRICS)
    counts = summary["finished"][summary["finished"] > 0]
    caption = describe(results.conditions, seed_range(counts) if len(counts) else "0")
    if results.searched:
        summary = ranked(summary, results)
        words = " ".join([search_findings(summary, results), *notes(results)])
        return Contents(summary, search_table(summary, results), caption, "", words, None)
    paper = paper_ablation(results.axes)
    comparable = not differing(results.conditions)
    best = best_rows(results.frame, summary, results.axes, tuple(COLUMNS)) if comparable else {}
    words = " ".join([grid_findings(results, paper), *notes(results)])
    table = ablation_table(summary, results.axes, paper, best)
    more = smaller_tables(results, summary) if comparable else []
    note = bold_note(summary, best) if comparable else ""
    return Contents(summary, table, caption, note, words, paper, more)


def smaller_tables(results: SweepResults, summary: pd.DataFrame) -> list[NamedTable]:
    """Returns what a grid of several axes says of each axis; none for one axis, or where no run has finished."""
    if len(results.axes) < 2 or results.finished.empty:
        return []
    found = [
        NamedTable(
            "Main effects",
            main_effects_table(results.frame, results.axes),
            "Means over the other parameters and the seeds; 95% intervals over the seeds' means.",
        )
    ]
    if GUIDANCE in results.axes:
        found.append(
            NamedTable(
                "Each at its best guidance",
                best_guidance_table(summary, results.axes, results.objective),
                f"The guidance with the best mean {results.objective}, chosen on the seeds that also give its numbers, "
                "which makes each a little too good.",
            )
        )
    return found


def write_tables(folder: Path, results: SweepResults, contents: Contents, layout: Layout) -> list[Path]:
    """Writes the table as Markdown, CSV and LaTeX; returns the files."""
    notes = "\n\n".join(part for part in (contents.caption, contents.note, contents.paper_note) if part)
    more = (f"## {each.title}\n\n{markdown(each.table)}\n\n{each.note}" for each in contents.more)
    parts = [results.incomplete, contents.text(layout), notes, contents.findings, *more]
    write_text(folder / "table.md", "\n\n".join(part for part in parts if part) + "\n")
    write_text(folder / "table.csv", as_csv(with_keys(contents.summary, results)))
    in_full = " ".join([results.incomplete, contents.caption, contents.note, contents.paper_note])
    in_latex = contents.table.only(layout.columns or LATEX_COLUMNS)
    write_text(
        folder / "table.tex", latex(in_latex, layout.caption or " ".join(in_full.split()), f"tab:{results.name}")
    )
    return [folder / "table.md", folder / "table.csv", folder / "table.tex"]


def with_keys(summary: pd.DataFrame, results: SweepResults) -> pd.DataFrame:
    """Returns the table with the column `keys`: a key for each run, by seed, that leads to its checkpoint.

    That is the evaluation's key, or the last stage's if the run did not finish; `ear sample` and `ear evaluate` take
    both.
    """
    groups = results.frame.groupby(results.axes, sort=True, dropna=False)  # in the order of `summarise`
    keys = [" ".join(map(checkpoint_key, group.to_dict("records"))) for _, group in groups]
    return summary.assign(keys=pd.Series(keys).reindex(summary.index))


def checkpoint_key(run: dict[str, Any]) -> str:
    """Returns the key that leads to a run's checkpoint."""
    return str(run["key"] if run["outcome"] == "finished" or not run["stages"] else run["stages"][-1])


def grid_findings(results: SweepResults, paper: PaperAblation | None) -> str:
    """Returns the findings on a grid, or why its rows can't be compared."""
    if apart := differing(results.conditions):
        return (
            f"The rows differ in {' and '.join(apart)}, so their numbers are not compared: "
            "run a separate sweep with its own name for each to compare the other settings."
        )
    words = [findings(results.frame, results.axes, paper), variance_words(results.frame, results.axes)]
    return " ".join(part for part in words if part)


def notes(results: SweepResults) -> list[str]:
    """Returns notes on what the report leaves out: the figure, and earlier sweeps of the same name."""
    found = []
    if reason := why_no_figure(results):
        found.append(f"There is no figure of the metrics: {reason}.")
    if results.earlier:
        count = len(results.earlier)
        which = "Another sweep" if count == 1 else f"{count} other sweeps"
        found.append(
            f"{which} with other runs used the name {results.name} before; this is the one that ran last. "
            "To report another one, run its FILE again, which trains nothing again, or give each its own name."
        )
    return found
