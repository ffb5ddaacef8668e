"""The figure of a grid of two axes, on summaries whose numbers are written out."""

import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure

from analysis.plots.grid_lines import MOST_ASIDE, draw_grid, is_numeric_grid, metric_panels, roles, sideways
from analysis.results import METRICS
from analysis.tables import display_table

CFG, STEPS = "sampling.cfg", "sampling.steps"
AXES = [CFG, STEPS]
GUIDANCE = [(cfg, steps) for cfg in (1.0, 1.25, 1.5, 2.0, 3.0) for steps in (4, 8, 16)]


def grid(
    fid: dict[tuple[object, object], float], fid_ci: float = 0.5, axes: list[str] = AXES, runs: int = 3
) -> pd.DataFrame:
    """A summary as `summarise` makes it: configuration -> mean FID; IS is 100 - FID, its interval half of FID's."""
    rows = []
    for values, mean in fid.items():
        missing = math.isnan(mean)
        row = dict(zip(axes, values, strict=True)) | {
            "runs": runs,
            "finished": 0 if missing else runs,
            "diverged": runs if missing else 0,
            "pruned": 0,
            "failed": 0,
            "diverged_at": 7.0 if missing else math.nan,
        }
        for metric in METRICS:
            row |= {metric: mean, f"{metric}_ci": math.nan if missing else fid_ci}
        rows.append(row | {"is": 100 - mean, "is_ci": math.nan if missing else fid_ci / 2})
    return pd.DataFrame(rows)


def rising(cfg: float, steps: int) -> float:
    """A FID of its own for each configuration of the grid, within a ratio of 4."""
    return 20 + cfg + steps / 100


@pytest.fixture
def guidance() -> pd.DataFrame:
    return grid({(cfg, steps): rising(cfg, steps) for cfg, steps in GUIDANCE})


@pytest.fixture
def canvas() -> tuple[Figure, dict[str, Axes]]:
    return metric_panels()


def lines_of(panel: Axes) -> dict[str, ErrorbarContainer]:
    return {container.get_label(): container for container in panel.containers}


def intervals_of(line: ErrorbarContainer) -> list[tuple[float, float]]:
    """Lower and upper end of each point's error bar; NaN where there is none."""
    (bars,) = line.lines[2]
    return [(bar[0, 1], bar[1, 1]) if len(bar) else (math.nan, math.nan) for bar in bars.get_segments()]


def test_the_axis_with_more_values_is_on_x(guidance: pd.DataFrame) -> None:
    assert roles(guidance, AXES) == (CFG, STEPS)
    assert roles(guidance, [STEPS, CFG]) == (CFG, STEPS)
    square = guidance[guidance[CFG] < 2]
    assert roles(square, AXES) == (CFG, STEPS)
    assert roles(square, [STEPS, CFG]) == (STEPS, CFG)  # of equals the sweep's first


def test_lines_are_the_summarys_means_and_intervals(
    guidance: pd.DataFrame, canvas: tuple[Figure, dict[str, Axes]]
) -> None:
    figure, panels = canvas
    draw_grid(figure, panels, guidance, CFG, STEPS)
    for metric, half_width in (("fid", 0.5), ("is", 0.25)):
        lines = lines_of(panels[metric])
        assert list(lines) == ["4", "8", "16"]
        for steps, line in zip((4, 8, 16), lines.values(), strict=True):
            fid = np.array([rising(cfg, steps) for cfg in (1.0, 1.25, 1.5, 2.0, 3.0)])
            expected = fid if metric == "fid" else 100 - fid
            assert list(line.lines[0].get_xdata(orig=False)) == [1.0, 1.25, 1.5, 2.0, 3.0]
            np.testing.assert_allclose(line.lines[0].get_ydata(orig=False), expected, rtol=1e-12)
            np.testing.assert_allclose(
                intervals_of(line), np.stack([expected - half_width, expected + half_width], axis=1), rtol=1e-12
            )
    assert panels["fid"].get_xlabel() == panels["is"].get_xlabel() == "cfg"


def test_one_legend_is_titled_with_the_lines_axis(canvas: tuple[Figure, dict[str, Axes]]) -> None:
    figure, panels = canvas
    axes = ["training.stages.-1.train_temperature", "sampling.infer_temperature"]
    summary = grid({(train, infer): 20.0 for train in (0.95, 1.0) for infer in (0.5, 0.75, 1.0)}, axes=axes)
    draw_grid(figure, panels, summary, *roles(summary, axes))
    (legend,) = figure.legends
    assert legend.get_title().get_text() == r"$\tau_\mathrm{train}$"
    assert [text.get_text() for text in legend.get_texts()] == ["0.95", "1.0"]
    assert panels["fid"].get_legend() is None


def test_lines_differ_in_colour_and_marker(guidance: pd.DataFrame, canvas: tuple[Figure, dict[str, Axes]]) -> None:
    figure, panels = canvas
    draw_grid(figure, panels, guidance, CFG, STEPS)
    drawn = [container.lines[0] for container in panels["fid"].containers]
    assert len({line.get_marker() for line in drawn}) == 3
    # A sequence in grey print too: luminance (Rec. 709) rises with the value.
    luminance = [np.dot(line.get_color()[:3], (0.2126, 0.7152, 0.0722)) for line in drawn]
    assert luminance == sorted(luminance)
    assert luminance[0] < luminance[1] - 0.1 < luminance[2] - 0.2


def test_points_of_one_x_stand_side_by_side(guidance: pd.DataFrame, canvas: tuple[Figure, dict[str, Axes]]) -> None:
    figure, panels = canvas
    draw_grid(figure, panels, guidance, CFG, STEPS)
    panel = panels["fid"]
    to_data = panel.transData.inverted()
    moved = [
        to_data.transform(line.get_transform().transform(np.stack(line.get_data(orig=False), axis=1)))[:, 0]
        - line.get_xdata(orig=False)
        for line in (container.lines[0] for container in panel.containers)
    ]
    # The range of cfg is 2, its least distance 0.25: 2% of the range is 0.04, but 0.3 * 0.25 / 2 is less.
    np.testing.assert_allclose(moved, np.repeat([[-0.0375], [0.0], [0.0375]], 5, axis=1), atol=1e-9)
    for container in panel.containers:  # bars and caps move with their points
        assert container.lines[2][0].get_transform() == container.lines[0].get_transform()
        assert all(cap.get_transform() == container.lines[0].get_transform() for cap in container.lines[1])
    np.testing.assert_array_equal(panel.get_xticks(), [1.0, 1.25, 1.5, 2.0, 3.0])


def test_sideways_moves_are_small_and_even() -> None:
    np.testing.assert_allclose(sideways([0.0, 1.0], 2), [-0.01, 0.01])  # 2% of the range
    np.testing.assert_allclose(sideways([0.0, 0.1, 10.0], 4), 0.01 * np.array([-1.5, -0.5, 0.5, 1.5]))
    assert np.ptp(sideways([0.0, 0.1, 10.0], 7)) == pytest.approx(MOST_ASIDE * 0.1)
    assert list(sideways([1.0], 3)) == [0, 0, 0]
    assert list(sideways([1.0, 2.0], 1)) == [0]


def test_missing_and_diverged_configurations_leave_gaps(canvas: tuple[Figure, dict[str, Axes]]) -> None:
    figure, panels = canvas
    fid: dict[tuple[object, object], float] = {(cfg, steps): rising(cfg, steps) for cfg, steps in GUIDANCE}
    del fid[(1.25, 8)]
    fid[(2.0, 16)] = math.nan
    fid |= dict.fromkeys(((cfg, 4) for cfg in (1.0, 1.25, 1.5, 2.0, 3.0)), math.nan)
    draw_grid(figure, panels, grid(fid), CFG, STEPS)
    lines = lines_of(panels["fid"])
    assert list(lines) == ["8", "16"]  # with 4 steps nothing finished
    nan = math.nan
    np.testing.assert_allclose(lines["8"].lines[0].get_ydata(orig=False), [21.08, nan, 21.58, 22.08, 23.08])
    np.testing.assert_allclose(lines["16"].lines[0].get_ydata(orig=False), [21.16, 21.41, 21.66, nan, 23.16])
    assert [math.isnan(low) for low, _ in intervals_of(lines["16"])] == [False, False, False, True, False]
    assert len(figure.legends[0].get_texts()) == 2


def test_a_single_seed_has_a_point_and_no_bar(canvas: tuple[Figure, dict[str, Axes]]) -> None:
    figure, panels = canvas
    draw_grid(figure, panels, grid(dict.fromkeys(GUIDANCE, 20.0), fid_ci=math.nan, runs=1), CFG, STEPS)
    line = lines_of(panels["fid"])["4"]
    assert list(line.lines[0].get_ydata(orig=False)) == [20.0] * 5
    assert np.isnan(intervals_of(line)).all()


def test_the_y_axis_is_logarithmic_from_a_ratio_of_four() -> None:
    for largest, expected in ((39.0, "linear"), (41.0, "log")):
        figure, panels = metric_panels()
        draw_grid(figure, panels, grid(dict.fromkeys(GUIDANCE, 10.0) | {(3.0, 16): largest}), CFG, STEPS)
        assert panels["fid"].get_yscale() == expected
        assert panels["is"].get_yscale() == "linear"  # 59 or 61 to 90
        assert panels["fid"].get_xscale() == "linear"


@pytest.mark.parametrize(
    "values",
    [["cosine", "linear"], [False, True], [None, 8], [None, None], [True, 2.0], [1.0, math.inf]],
    ids=str,
)
def test_an_axis_of_other_than_numbers_is_no_numeric_grid(values: list[object]) -> None:
    assert not is_numeric_grid(grid({(cfg, value): 20.0 for cfg in (1.0, 2.0) for value in values}), AXES)


def test_numeric_grids_have_two_axes(guidance: pd.DataFrame) -> None:
    assert is_numeric_grid(guidance, AXES)
    assert not is_numeric_grid(guidance, [CFG])
    assert not is_numeric_grid(guidance.assign(**{"scoring.alpha": 1.0}), [*AXES, "scoring.alpha"])


def test_whole_numbers_stay_whole_beside_fractions(guidance: pd.DataFrame) -> None:
    assert list(display_table(guidance, AXES, None)["steps"])[:3] == ["4", "8", "16"]
