"""A sweep's report: table, figure, samples and findings, all from MLflow, all saying what was measured with what."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.ablation_figure import save_ablation_figure
from analysis.findings import findings
from analysis.grid_figure import is_numeric_grid, save_grid_figure
from analysis.paper import PaperAblation, paper_ablation
from analysis.results import METRICS, SweepResults, load_results
from analysis.samples import save_sample_sheet
from analysis.search import ranked, search_findings, search_table
from analysis.statistics import seed_range, summarise
from analysis.tables import display_table, latex, markdown
from ear.files import require_writable, write_text
from ear.store import Store
from ear.store.outdated import refuse_outdated
from ear.store.uses import record_use
from sweeps.runs import short_name

ALONE = " of each configuration alone; as they share their seeds, differences can be surer than ± suggests"


@dataclass(frozen=True)
class Report:
    folder: Path
    table: str  # Markdown
    caption: str
    findings: str
    files: list[Path]


def write_report(name: str, root: Path) -> Report:
    """Writes ROOT/NAME/report/ from what MLflow knows of the sweep.

    Raises:
        UserError: the sweep is unknown or has no finished run, or the folder can't be written.
    """
    results = load_results(name, root)
    store, keys = Store(root), [*results.finished["key"], *results.confirmations.get("key", ())]
    refuse_outdated(store, keys)
    record_use(store, f"report {name}", keys)
    folder = root / name / "report"
    require_writable(folder)
    paper = paper_ablation(results.axes)
    summary = summarise(results.frame, results.axes, METRICS)
    caption = describe(results.conditions, seed_range(summary["finished"][summary["finished"] > 0]))
    if results.searched:
        paper = None  # which ablates one parameter at a time
        summary = ranked(summary, results)
        table = search_table(summary, results)
        words = search_findings(summary, results)
    else:
        table = display_table(summary, results.axes, paper)
        words = findings(results.frame, results.axes, paper)
    text = markdown(table)
    paper_line = f"\nPaper: {paper.setting}.\n" if paper else ""
    write_text(folder / "table.md", f"{text}\n\n{caption}\n{paper_line}\n{words}\n")
    full_caption = f"{caption} {'Paper: ' + paper.setting + '.' if paper else ''}".strip()
    write_text(folder / "table.tex", latex(table, results.axes, full_caption, f"tab:{name}"))
    write_text(folder / "table.csv", summary.to_csv(index=False))
    files = [folder / "table.md", folder / "table.csv", folder / "table.tex"]
    files += save_figure(folder, results, summary, paper, caption)
    save_sample_sheet(folder / "samples.png", results, summary, caption)
    files.append(folder / "samples.png")
    return Report(folder, text, caption, words, files)


def save_figure(
    folder: Path, results: SweepResults, summary: pd.DataFrame, paper: PaperAblation | None, caption: str
) -> list[Path]:
    """The figure of one axis, or of two numeric ones, named after them; a search or another grid has none."""
    path = folder / f"{'-'.join(short_name(axis) for axis in results.axes)}.png"
    if results.searched:
        return []
    if len(results.axes) == 1:
        save_ablation_figure(path, summary, results.axes[0], paper, caption)
    elif is_numeric_grid(summary, results.axes):
        save_grid_figure(path, summary, results.axes, caption)
    else:
        return []
    return [path]


def describe(conditions: dict[str, Any], seeds: str) -> str:
    """One sentence that labels every number of the report."""
    settings = ", ".join(
        f"{label} {conditions[name]}"
        for name, label in (
            ("sampling.cfg", "CFG"),
            ("sampling.infer_temperature", "inference temperature"),
            ("sampling.steps", "steps"),
        )
        if name in conditions
    )
    real = conditions["reference"]
    if conditions["reference_images"] is not None:  # a file of statistics does not tell
        real = f"{conditions['reference_images']:.0f} of {real}"
    weights = f"weights {conditions['extractor_hash']}"
    if conditions["extractor_accuracy"] is not None:
        weights = f"{conditions['extractor_accuracy']:.1%} accurate, {weights}"
    return (
        f"{conditions['images']:.0f} generated images ({conditions['null_images']:.0f} without label) against {real}; "
        f"extractor {conditions['extractor']} ({weights}); {settings}; "
        f"{seeds} seed{f's, mean ± 95% interval{ALONE}' if seeds != '1' else ''}."
    )
