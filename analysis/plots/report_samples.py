"""The sample sheet of a report: which runs it shows, and with which guidance."""

import warnings
from collections.abc import Iterator
from typing import Any

import pandas as pd

from analysis.plots.sample_images import GUIDANCE, SampleImages, guided_images, real_images, sample_images
from analysis.plots.sample_sheet import MOST_ROWS, fits_as_grid, sample_grid, sample_list
from analysis.plots.saving import Plot
from analysis.results import SweepResults
from ear.store import Store
from sweeps.spec.metric import better

CLASSES, IMAGES = 10, 10  # of the grids that evaluations store
STORED = "The images are the first ones that were measured."
GUIDED = f"The images are drawn anew with CFG {GUIDANCE:g}, at which they are easier to read; the numbers are not."


def samples_plot(results: SweepResults, summary: pd.DataFrame, store: Store) -> Iterator[Plot]:
    """Yields the sample sheet, if the images are still there.

    All rows are sampled alike: with guidance where that is possible for each of them and no axis varies it, else with
    what their evaluations used.
    """
    shown = rows_shown(results, summary)
    runs = first_seeds(results, shown)
    pictures, note = {} if varies_guidance(results) else guided(runs, store), GUIDED
    if not pictures:
        stored = {index: sample_images(results, run, store) for index, run in runs.items()}
        pictures, note = {index: images for index, images in stored.items() if images is not None}, STORED
    if not pictures:
        return
    real = real_images(next(iter(runs.values())), store, CLASSES, IMAGES)
    draw = sample_grid if not results.searched and fits_as_grid(shown, results.axes) else sample_list
    figure = draw(
        shown, results.axes, results.objective, pictures, real, f"drawn with CFG {GUIDANCE:g}" if note == GUIDED else ""
    )
    count = summary[results.objective].notna().sum()
    best = f" The {MOST_ROWS} best of {count} configurations." if len(shown) < count else ""
    about = "Samples of each configuration's first finished seed: the same noise and the same classes in all."
    yield Plot("samples", figure, f"{about} {note}{best}")


def rows_shown(results: SweepResults, summary: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows of the table with a finished run; of too many, the best ones."""
    shown = summary.dropna(subset=[results.objective])
    if len(shown) > MOST_ROWS and not results.searched and not fits_as_grid(shown, results.axes):
        shown = shown.sort_values(results.objective, ascending=better(results.objective) == "min")
    return shown if fits_as_grid(shown, results.axes) and not results.searched else shown.head(MOST_ROWS)


def first_seeds(results: SweepResults, shown: pd.DataFrame) -> dict[int, dict[str, Any]]:
    """Returns the run of the first finished seed of each of these rows of the table, by the row's index."""
    groups = [group for _, group in results.frame.groupby(results.axes, sort=True, dropna=False)]
    found = {}
    for index in shown.index:
        finished = groups[index][groups[index]["outcome"] == "finished"]
        found[index] = finished.sort_values("seed").iloc[0].to_dict()
    return found


def varies_guidance(results: SweepResults) -> bool:
    """Whether an axis varies the guidance, so that drawing anew with another one would hide what it does."""
    return any(axis == "sampling" or axis.startswith("sampling.cfg") for axis in results.axes)


def guided(runs: dict[int, dict[str, Any]], store: Store) -> dict[int, SampleImages]:
    """Samples all of these runs anew, by the row's index; nothing if one of them can't be."""
    found: dict[int, SampleImages] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of the trainings, which have been given
        for index, run in runs.items():
            if (images := guided_images(run, store, CLASSES, IMAGES)) is None:
                return {}
            found[index] = images
    return found
