"""Writes a sweep's report from MLflow: table, figure, samples and findings, with the evaluation conditions."""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.axis_values import as_csv
from analysis.conditions import describe, differing
from analysis.findings import findings
from analysis.paper import PaperAblation, paper_ablation
from analysis.plots.report_plots import remove_plots, save_plots, why_no_figure
from analysis.results import METRICS, SweepResults, load_results
from analysis.search import ranked, search_findings, search_table
from analysis.statistics import seed_range, summarise
from analysis.tables import display_table, latex, markdown
from ear.errors import UserError
from ear.files.writing import may_write, require_writable, write_text
from ear.store import Store
from ear.store.outdated import refuse_outdated
from ear.store.repair import removed_keys
from ear.store.uses import record_use
from sweeps.spec.result_comparison import STORED_OUTCOMES, differs
from sweeps.spec.runs import stored_result


@dataclass(frozen=True)
class Report:
    """A written report: its texts and files."""

    folder: Path
    table: str  # Markdown
    caption: str
    findings: str
    incomplete: str  # what the sweep still lacks; empty if nothing
    files: list[Path]


def write_report(name: str, root: Path) -> Report:
    """Writes ROOT/NAME/report/ for the sweep of this name that ran last; a temporary folder if that one is read-only.

    Raises:
        UserError: the sweep is unknown, none of its runs has ended, its results were damaged or not measured alike, or
            the folder can't be written.
    """
    results = load_results(name, root)
    refuse_outdated(Store(root, reading=True), results.rests_on)
    refuse_removed(Store(root, reading=True), results)
    if results.searched:
        refuse_damaged_search(name, root)
    folder = root / name / "report"
    if may_write(folder):
        record_use(Store(root), f"report {name}", results.rests_on)
        require_writable(folder)
        remove_plots(folder, [results.axes, *results.earlier])
    else:  # an archive or another user's results
        folder = Path(tempfile.mkdtemp(prefix=f"ear-report-{name}-"))
    paper = paper_ablation(results.axes)
    summary = summarise(results.frame, results.axes, METRICS)
    counts = summary["finished"][summary["finished"] > 0]
    caption = describe(results.conditions, seed_range(counts) if len(counts) else "0")
    # In the caption, since it goes with the table and the figures wherever they are copied to.
    caption = f"{results.incomplete} {caption}".strip()
    if results.searched:
        paper = None  # the paper has only ablations of one parameter
        summary = ranked(summary, results)
        table = search_table(summary, results)
        words = search_findings(summary, results)
    else:
        table = display_table(summary, results.axes, paper)
        words = grid_findings(results, paper)
    words = " ".join([words, *notes(results)])
    text = markdown(table)
    paper_line = f"\nPaper: {paper.setting}.\n" if paper else ""
    first = f"{results.incomplete}\n\n" if results.incomplete else ""
    write_text(folder / "table.md", f"{first}{text}\n\n{caption}\n{paper_line}\n{words}\n")
    full_caption = f"{caption} {'Paper: ' + paper.setting + '.' if paper else ''}".strip()
    write_text(folder / "table.tex", latex(table, results.axes, full_caption, f"tab:{name}"))
    write_text(folder / "table.csv", as_csv(with_keys(summary, results)))
    files = [folder / "table.md", folder / "table.csv", folder / "table.tex"]
    files += save_plots(folder, results, summary, paper, caption, Store(root, reading=True))
    return Report(folder, text, caption, words, results.incomplete, files)


def with_keys(summary: pd.DataFrame, results: SweepResults) -> pd.DataFrame:
    """Returns the table with the column `keys`: a key for each run, by seed, that leads to its checkpoint.

    That is the evaluation's key, or the last stage's if the run did not finish; `ear sample` and `ear evaluate` take
    both.
    """
    groups = results.frame.groupby(results.axes, sort=True, dropna=False)  # in the order of `summarise`
    keys = [" ".join(map(_checkpoint_key, group.to_dict("records"))) for _, group in groups]
    return summary.assign(keys=pd.Series(keys).reindex(summary.index))


def _checkpoint_key(run: dict[str, Any]) -> str:
    return str(run["key"] if run["outcome"] == "finished" or not run["stages"] else run["stages"][-1])


def refuse_removed(store: Store, results: SweepResults) -> None:
    """Checks that MLflow's numbers do not come from results that a repair removed.

    Raises:
        UserError: some of them do.
    """
    removed = removed_keys(store)
    resting = [
        run
        for run in results.all_runs
        if run["outcome"] in STORED_OUTCOMES.values() and removed & {run["key"], *run["stages"]}
    ]
    if stale := sum(_is_stale(run, store) for run in resting):
        raise UserError(
            f"{stale} of these results were damaged or based on damaged ones, and `ear store verify --repair` "
            "removed them: run the sweep again to recompute them and correct MLflow."
        )


def _is_stale(run: dict[str, Any], store: Store) -> bool:
    """Whether a row differs from the store; compares only the metrics that reports show."""
    result = stored_result(run["stages"], run["key"], store)
    if result is not None:
        result = replace(result, metrics={name: value for name, value in result.metrics.items() if name in run})
    return differs(result, run["outcome"], run)


def refuse_damaged_search(name: str, root: Path) -> None:
    """Checks that no damaged result has influenced a search's proposals.

    Raises:
        UserError: one has, even if MLflow's numbers are correct by now.
    """
    from sweeps.search.after_repair import STEERED, refuse_steered  # these import Optuna
    from sweeps.search.study_summary import load_study

    if study := load_study(name, root / name):
        refuse_steered(study.user_attrs.get(STEERED), name)


def grid_findings(results: SweepResults, paper: PaperAblation | None) -> str:
    """Returns the findings on a grid, or why its rows can't be compared."""
    if apart := differing(results.conditions):
        return (
            f"The rows differ in {' and '.join(apart)}, so their numbers are not compared: "
            "run a separate sweep with its own name for each to compare the other settings."
        )
    return findings(results.frame, results.axes, paper)


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
