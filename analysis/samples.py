"""The sample sheet of a report: samples of each configuration."""

import tempfile
import textwrap
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.image import imread
from numpy.typing import NDArray

from analysis.figures import wrap_caption
from analysis.notation import figure_symbol, figure_value
from analysis.results import SweepResults
from ear.files.writing import write_atomically
from ear.store import Store
from sweeps.spec.metric import better

COLUMNS_OF_SHEET = 5
TITLE_WIDTH = 36  # characters of a panel's title
MOST_PANELS = 20  # of more configurations, only the best are shown


def save_sample_sheet(path: Path, results: SweepResults, summary: pd.DataFrame, caption: str, store: Store) -> None:
    """Saves a sheet with one panel per configuration: samples of its first finished seed, one row per class and a last
    row without class label."""
    first = panels_of(results, summary)
    columns = min(COLUMNS_OF_SHEET, len(first))
    rows = -(-len(first) // columns)
    with matplotlib.rc_context({"font.size": 8}):
        figure = Figure(figsize=(1.9 * columns, 2.85 * rows + 0.1), dpi=200, layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).flatten()
        for panel in panels:
            panel.set_axis_off()
        for panel, (_, configuration) in zip(panels, first.iterrows(), strict=False):
            panel.imshow(samples_of(results, configuration, store), interpolation="nearest")
            values = ", ".join(
                f"{figure_symbol(axis, results.axes)} = {figure_value(configuration[axis])}" for axis in results.axes
            )
            fid, recall = configuration["fid"], configuration["recall"]
            panel.set_title(f"{textwrap.fill(values, TITLE_WIDTH)}\nFID {fid:.1f}, recall {recall:.2f}", fontsize=8)
        figure.supxlabel(
            wrap_caption(f"{note(results)} {caption}", 40 * columns), fontsize=6, color="0.35", parse_math=False
        )
        write_atomically(path, lambda temporary: figure.savefig(temporary, format="png"))


def first_seeds(results: SweepResults) -> pd.DataFrame:
    """Returns the run of each configuration's first finished seed."""
    return results.finished.groupby(results.axes, sort=True, dropna=False).first().reset_index()


def panels_of(results: SweepResults, summary: pd.DataFrame) -> pd.DataFrame:
    """Returns each configuration's first finished run; if there are too many, those of the best configurations."""
    first = first_seeds(results)
    if len(first) <= MOST_PANELS:
        return first
    if not results.searched:
        summary = summary.sort_values(results.objective, ascending=better(results.objective) == "min")
    return summary[results.axes].merge(first, on=results.axes).head(MOST_PANELS)


def note(results: SweepResults) -> str:
    """Returns what the panels show, to keep one seed's numbers from being read as the caption's means."""
    count = len(first_seeds(results))
    which = f"; the {MOST_PANELS} best of {count} configurations"
    return (
        "One row per class, the last one without class label; samples, FID and recall of the first finished seed"
        f"{which if count > MOST_PANELS else ''}."
    )


def samples_of(results: SweepResults, run: pd.Series, store: Store) -> NDArray[np.float32]:
    """Returns the run's two sample sheets, labelled above unlabelled, as one picture [rows, columns, RGB]."""
    with tempfile.TemporaryDirectory() as folder:
        labelled, unlabelled = (
            imread(
                store.path(run["key"]) / name
                if results.client is None
                else results.client.download_artifacts(run["run_id"], name, folder)
            )[..., :3]
            for name in ("samples.png", "samples_null.png")
        )
    gap = np.ones((labelled.shape[0] // 40, *labelled.shape[1:]), dtype=labelled.dtype)
    return np.concatenate([labelled, gap, unlabelled])
