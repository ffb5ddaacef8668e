"""Which plots a report has, and what they refer to."""

import math
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from plotted import ALPHA, COLLAPSE, runs

from analysis.plots.report_plots import (
    affects_time,
    plots,
    reference_row,
    remove_plots,
    save_plots,
    seconds_an_image,
    why_no_figure,
)
from analysis.results import METRICS, SweepResults, base_values
from analysis.statistics import summarise
from ear.store import Store

AXES = ["sampling.cfg", "sampling.steps", "optimizer.betas"]


def results_of(frame: pd.DataFrame, axes: list[str], **more: object) -> SweepResults:
    frame = frame.assign(key="none", run_id="none", stages=[[] for _ in range(len(frame))])
    return SweepResults("s", axes, frame, [], None, pd.DataFrame(), ["fid"], **more)  # type: ignore[arg-type]


def grid(seeds: int, *sizes: int) -> SweepResults:
    """FID 20, 21, ... over axes with so many values."""
    axes = AXES[: len(sizes)]
    points = pd.MultiIndex.from_product([range(1, size + 1) for size in sizes])
    ends = {tuple(point): [20.0 + at + seed**2 for seed in range(seeds)] for at, point in enumerate(points)}
    return results_of(runs(ends, " ".join(axes)), axes)  # type: ignore[arg-type]


def names_of(results: SweepResults, folder: Path) -> list[str]:
    summary = summarise(results.frame, results.axes, METRICS)
    return [plot.name for plot in plots(results, summary, None, Store(folder, reading=True), folder)]


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        (grid(2, 3), ["cfg", "cfg-differences"]),
        (grid(1, 3), ["cfg"]),  # one seed has no differences with intervals
        (grid(2, 2, 2), ["cfg-steps", "cfg-steps-map", "cfg-steps-differences"]),
        (grid(2, 2, 2, 2), ["cfg-steps-betas-differences"]),
        (grid(1, 2, 2, 2), []),
    ],
)
def test_what_is_drawn_of_a_grid(results: SweepResults, expected: list[str], tmp_path: Path) -> None:
    """Without times, curves and images, which the store has not."""
    assert names_of(results, tmp_path) == expected
    assert why_no_figure(results) == ("" if expected else "3 axes need shared seeds")


def test_where_nothing_finished_nothing_is_drawn(tmp_path: Path) -> None:
    results = results_of(runs({0.8: ["diverged"], 0.9: ["diverged"]}), [ALPHA])
    assert names_of(results, tmp_path) == []
    assert why_no_figure(results) == "no run has finished"


def test_differences_are_to_the_base_or_to_the_first_that_finished() -> None:
    results = results_of(runs(COLLAPSE), [ALPHA])
    assert reference_row(replace(results, base={ALPHA: 1.5})) == 2
    assert reference_row(replace(results, base={ALPHA: 1.1})) == reference_row(results) == 0
    first = results_of(runs({0.9: ["diverged"], 1.0: [20.0]}), [ALPHA])
    assert reference_row(replace(first, base={ALPHA: 0.9})) == 1


def test_the_base_s_values_are_the_config_s_unless_the_sweep_sets_them() -> None:
    axes = [ALPHA, "training.stages.-1.train_temperature", "sampling.steps", "scoring.unknown"]
    settings = {"base": "digits", "set": {"sampling.steps": 4}}
    assert base_values(settings, axes) == dict(zip(axes, [1.0, 0.99, 4, None], strict=True))
    assert base_values({"base": "no such", "set": {}}, axes) == {}


@pytest.mark.parametrize(
    ("axis", "expected"),
    [
        ("sampling.steps", True),
        ("sampling.cfg_schedule", True),
        ("scoring", True),
        ("model.width", True),
        ("scoring.alpha", False),
        ("sampling.infer_temperature", False),
        ("optimizer.generator_lr_scale", False),
    ],
)
def test_speed_is_drawn_where_an_axis_can_change_it(axis: str, expected: bool) -> None:
    assert affects_time(axis) == expected


def test_a_run_without_an_evaluation_has_no_time(tmp_path: Path) -> None:
    assert math.isnan(seconds_an_image({"outcome": "finished", "key": "none"}, Store(tmp_path, reading=True)))


def test_the_next_report_removes_the_plots_of_the_last_one(tmp_path: Path) -> None:
    results = grid(1, 3)
    (tmp_path / "cfg.png").touch()  # of an earlier version
    summary = summarise(results.frame, results.axes, METRICS)
    (plot,) = save_plots(tmp_path, results, summary, None, "the conditions.", Store(tmp_path, reading=True))
    assert [file.name for file in plot.files] == ["cfg.png", "cfg.pdf"]
    assert (plot.png.parent / "captions.md").read_text().rstrip().endswith("the conditions.")
    remove_plots(tmp_path, [results.axes])
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
