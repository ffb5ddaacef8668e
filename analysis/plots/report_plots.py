"""The plots of a sweep's report: which ones it has, their captions, and their files."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.conditions import differing
from analysis.paper import PaperAblation
from analysis.plots.grid_lines import grid_lines, is_numeric_grid
from analysis.plots.heat_map import heat_map
from analysis.plots.metric_curve import metric_curve
from analysis.plots.paired_differences import difference_table, paired_differences
from analysis.plots.report_samples import samples_plot
from analysis.plots.saving import Plot, SavedPlot, save_figure
from analysis.plots.speed_quality import SECONDS, speed_quality
from analysis.plots.training_curves import read_curve, training_curves
from analysis.results import SweepResults
from ear.errors import UserError
from ear.evaluation.result import load_evaluation
from ear.files.writing import write_text
from ear.store import Store
from sweeps.spec.naming import short_names

FOLDER = "figures"  # in the report's folder
CAPTIONS = "captions.md"
MOST_DIFFERENCES = 24  # configurations in a figure of differences
# Parameters and sections that change how long an image takes; the others' times differ by the machine's noise only.
SLOWS = (
    *("model", "tokenizer", "scoring.name", "scoring.generator", "scoring.denoiser", "execution"),
    *("sampling.steps", "sampling.cfg", "sampling.denoising_steps"),
)
MOST_CURVES = 60  # runs in a figure of training curves
CHECKPOINT = "checkpoint.safetensors"

INTERVALS = "Means over seeds with 95% t intervals"


def save_plots(
    folder: Path,
    results: SweepResults,
    summary: pd.DataFrame,
    paper: PaperAblation | None,
    caption: str,
    store: Store,
) -> list[SavedPlot]:
    """Saves a report's plots to FOLDER/figures/ as PNG and PDF, and their captions to FOLDER/figures/captions.md.

    Args:
        summary: the report's table, whose order a search's plots follow.
        caption: the evaluation conditions, which every plot's caption ends with.
    """
    saved, captions = [], []
    for plot in plots(results, summary, paper, store, store.folder.parent / results.name):
        whole = f"{plot.caption} {caption}"
        saved.append(SavedPlot(plot.caption, *save_figure(replace(plot, caption=whole), folder / FOLDER)))
        captions.append(f"![{plot.name}]({plot.name}.png)\n\n{whole}\n")
    if captions:
        write_text(folder / FOLDER / CAPTIONS, "\n".join(captions))
    return saved


def remove_plots(folder: Path, spaces: Sequence[Sequence[str]]) -> None:
    """Removes the plots of the previous report, which may show other runs, and of earlier versions over these axes."""
    for name in ("samples", *("-".join(short_names(axes).values()) for axes in spaces)):
        (folder / f"{name}.png").unlink(missing_ok=True)  # where earlier versions wrote them
    for pattern in ("*.png", "*.pdf", CAPTIONS):
        for file in (folder / FOLDER).glob(pattern):
            file.unlink()


def plots(
    results: SweepResults, summary: pd.DataFrame, paper: PaperAblation | None, store: Store, folder: Path
) -> Iterator[Plot]:
    """Yields a report's plots, the most telling one first; none if no run has finished.

    Args:
        folder: the sweep's, where a search has its study.
    """
    if results.finished.empty:
        return
    if results.searched:
        from analysis.plots.search_plots import search_plots  # these import Optuna
        from sweeps.search.study_summary import load_study

        yield from search_plots(results, summary, load_study(results.name, folder))
    else:
        yield from grid_plots(results, paper)
        yield from speed_plots(results, store)
    yield from curve_plots(results, store)
    yield from samples_plot(results, summary, store)


def why_no_figure(results: SweepResults) -> str:
    """Returns why a grid has no figure of its metrics; empty if it has one, or if the sweep is a search."""
    if results.searched:
        return ""
    if results.finished.empty:
        return "no run has finished"
    return "" if len(results.axes) < 3 or has_differences(results) else f"{len(results.axes)} axes need shared seeds"


def has_differences(results: SweepResults) -> bool:
    """Whether there are differences with intervals to draw, and not too many."""
    if differing(results.conditions):
        return False
    table, _ = difference_table(results.frame, results.axes, "fid", reference_row(results))
    return len(table) <= MOST_DIFFERENCES and bool(table["p"].notna().any())


def grid_plots(results: SweepResults, paper: PaperAblation | None) -> Iterator[Plot]:
    """Yields the plots of a grid's metrics."""
    frame, axes = results.frame, results.axes
    name = "-".join(short_names(axes).values())
    if len(axes) == 1:
        yield Plot(name, metric_curve(frame, axes[0], paper=paper), curve_caption(frame))
    if is_numeric_grid(frame, axes):
        yield Plot(name, grid_lines(frame, axes), f"{INTERVALS}; points at the same x are drawn side by side.")
    if len(axes) == 2 and not differing(results.conditions):
        yield Plot(
            f"{name}-map",
            heat_map(frame, axes),
            "Mean FID over two parameters. Thick outline: the lowest; thin ones: those that can't be told apart "
            "from it (paired by seed, 95% confidence that the truly lowest is among them).",
        )
    if has_differences(results):
        yield Plot(
            f"{name}-differences",
            paired_differences(frame, axes, "fid", reference_row(results)),
            "Differences paired by seed with their 95% intervals; faint points are the seeds. Filled points differ "
            "significantly from zero (Holm, 5% for all together).",
        )


def curve_caption(frame: pd.DataFrame) -> str:
    """Returns the caption of a metric's curve."""
    several = (frame[frame["outcome"] == "finished"].groupby("seed").ngroups) > 1
    points = f"{INTERVALS}; faint points are the seeds." if several else "One seed, so there are no intervals."
    return f"{points} The panels' y axes differ; where one is broken, both sides have the same scale."


def reference_row(results: SweepResults) -> int:
    """Returns the row of `summarise` with the base's values; the first one that finished if there is none."""
    groups = list(results.frame.groupby(results.axes, sort=True, dropna=False))
    finished = [row for row, (_, group) in enumerate(groups) if (group["outcome"] == "finished").any()]
    for row in finished:
        values = groups[row][0]
        if results.base and all(
            getattr(value, "value", value) == results.base.get(axis)
            for axis, value in zip(results.axes, values, strict=True)
        ):
            return row
    return finished[0]


def speed_plots(results: SweepResults, store: Store) -> Iterator[Plot]:
    """Yields the plot of speed and quality, if an axis affects the time and the store still has the times."""
    each = [seconds_an_image(run, store) for run in results.frame.to_dict("records")]
    frame = results.frame.assign(**{SECONDS: each})
    if any(map(affects_time, results.axes)) and frame[SECONDS].notna().sum() > 1:
        yield Plot(
            "speed",
            speed_quality(frame, results.axes),
            "Connected: no other configuration is both faster and better. A time is an evaluation's (sampling with and "
            "without label, features and metrics; not loading) divided by its images, on the machine that did it, with "
            "whatever else ran there; the median over seeds. The paper's summary gives one time for all sizes of EAR.",
        )


def affects_time(axis: str) -> bool:
    """Whether an axis can change how long an image takes to sample."""
    return any(axis.startswith(name) or name.startswith(f"{axis}.") for name in SLOWS)


def seconds_an_image(run: dict[str, Any], store: Store) -> float:
    """Returns how long a run's evaluation took for each image; NaN if the store does not have it."""
    if run["outcome"] != "finished" or run["key"] not in store:
        return np.nan
    try:
        evaluation = load_evaluation(run["key"], store)
    except UserError:  # damaged
        return np.nan
    return evaluation.seconds / (evaluation.images + evaluation.null_images)


def curve_plots(results: SweepResults, store: Store) -> Iterator[Plot]:
    """Yields the training curves that the store has, one for each training.

    Axes that affect only evaluation do not tell trainings apart, and are left out.
    """
    last = results.frame["stages"].map(lambda stages: stages[-1] if stages else None)
    axes = [axis for axis in results.axes if results.frame.groupby(last)[axis].nunique(dropna=False).max() == 1]
    found: list[pd.DataFrame] = []
    seen: set[str] = set()
    for run in results.frame.to_dict("records"):
        ended = [key for key in run["stages"] if key in store]
        if not ended or ended[-1] in seen or len(seen) >= MOST_CURVES:
            continue
        seen.add(ended[-1])
        curve = read_curve(store.path(ended[-1]) / CHECKPOINT)
        about = {axis: run[axis] for axis in axes} | {"seed": run["seed"], "diverged_at": run["diverged_at"]}
        found.append(curve.assign(**{name: [value] * len(curve) for name, value in about.items()}))
    if found and len(curves := pd.concat(found, ignore_index=True)):
        yield Plot(
            "training",
            training_curves(curves, axes),
            "One line per training; runs that differ only in evaluation share one. Losses of different α, train "
            "temperatures or rules do not compare.",
        )
