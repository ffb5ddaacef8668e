"""The page of one or several reports."""

import os
from collections.abc import Sequence
from pathlib import Path

from analysis.notation import symbol
from analysis.page.content import (
    Page,
    PageCell,
    PageFigure,
    PageKey,
    PageRow,
    PageSection,
    PageTable,
    PageVerdict,
)
from analysis.page.provenance import provenance
from analysis.page.render import render
from analysis.promotion.record import promotions
from analysis.report import NamedTable, Report, checkpoint_key
from ear.files.writing import may_write, write_text
from ear.store import Store
from sweeps.spec.naming import shown
from sweeps.tracking.links import pages_address, run_link
from sweeps.tracking.mlflow_client import VARIABLE

PAGE = "report.html"


def write_pages(reports: Sequence[Report], root: Path, out: Path | None) -> list[Path]:
    """Writes the page of each report into its folder, and that of several together into `out`, or the output root.

    Raises:
        UserError: a file can't be written.
    """
    pages = [write_page(each.folder / PAGE, each.results.name, lead(each), [each], root) for each in reports]
    if len(reports) > 1 and (out is not None or may_write(root)):
        names = ", ".join(each.results.name for each in reports)
        pages.append(write_page((out or root) / PAGE, names, f"{len(reports)} sweeps.", reports, root))
    return pages


def lead(report: Report) -> str:
    """Says in a sentence what was swept."""
    results, configurations = report.results, len(report.contents.summary)
    axes = " and ".join(symbol(axis, results.axes) for axis in results.axes)
    kind = "A search over" if results.searched else "A sweep over"
    return f"{kind} {axes}: {configurations} configurations, {len(results.frame)} runs."


def write_page(
    path: Path,
    title: str,
    lead: str,
    reports: Sequence[Report],
    root: Path,
    verdicts: Sequence[PageVerdict] = (),
    verdicts_note: str = "",
) -> Path:
    """Writes the page of these reports; returns its path.

    Raises:
        UserError: the file can't be written.
    """
    runs = [run for report in reports for run in report.results.all_runs]
    page = Page(
        title,
        lead,
        [section(report, root) for report in reports],
        verdicts,
        verdicts_note,
        provenance(runs, Store(root, reading=True)),
    )
    write_text(path, render(page))
    return path


def section(report: Report, root: Path) -> PageSection:
    """Returns a report's part of a page, with the promotions of its sweep.

    Raises:
        UserError: the record of a promotion is damaged.
    """
    name = report.results.name
    return PageSection(
        name,
        name,
        report.findings,
        report.incomplete,
        [table(report), *map(further_table, report.contents.more)],
        [PageFigure(plot.png, plot.caption) for plot in report.plots],
        [each.fact for each in promotions(root, name)],
    )


def table(report: Report) -> PageTable:
    """Returns a report's table with the results behind each row."""
    results, found = report.results, report.contents.table
    columns = list(found.cells)
    keys = results_by_row(report)
    rows = [
        PageRow(
            [PageCell(found.cells[column].iloc[number], found.is_best(number, column)) for column in columns],
            configuration_name(report, number),
            f"{results.name}:{number}",  # no sweep's name has a colon
            keys[number],
        )
        for number in range(len(found.cells))
    ]
    return PageTable(results.name, [found.heading(column) for column in columns], rows, report.caption)


def further_table(found: NamedTable) -> PageTable:
    """Returns a table without links to results."""
    headings = [found.table.heading(column) for column in found.table.cells]
    rows = [PageRow(list(map(PageCell, row))) for row in found.table.cells.itertuples(index=False)]
    return PageTable(found.title, headings, rows, found.note, titled=True)


def results_by_row(report: Report) -> list[list[PageKey]]:
    """Returns the results behind each row of a report's table, a run each."""
    results = report.results
    pages = pages_address(os.environ.get(VARIABLE, ""))
    groups = dict(enumerate(group for _, group in results.frame.groupby(results.axes, sort=True, dropna=False)))
    return [
        [
            PageKey(
                checkpoint_key(run),
                run["seed"],
                run_link(pages, results.experiment, run["key"]) if results.experiment else "",
            )
            for run in groups[index].to_dict("records")
        ]
        for index in report.contents.summary.index
    ]


def configuration_name(report: Report, number: int) -> str:
    """Names a row's configuration: `α 1.0, cfg 2.0`."""
    axes, row = report.results.axes, report.contents.summary.astype(object).iloc[number]
    return ", ".join(f"{symbol(axis, axes)} {shown(row[axis])}" for axis in axes)
