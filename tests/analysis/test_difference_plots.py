"""Paired differences, the heat map, and speed against quality."""

import numpy as np
import pytest
from matplotlib.colors import same_color
from matplotlib.patches import Rectangle
from plotted import ALPHA, COLLAPSE, overlapping, runs

from analysis.axis_values import axis_column
from analysis.plots.heat_map import heat_map
from analysis.plots.paired_differences import difference_table, paired_differences
from analysis.plots.speed_quality import SECONDS, paper_speed, speed_quality

AXES = ["sampling.cfg", "sampling.steps"]
GRID = " ".join(AXES)


def test_differences_are_paired_by_seed() -> None:
    """Seeds differ by 10, configurations by 1: intervals of means overlap, those of differences do not touch 0."""
    frame = runs({1.0: [10.0, 20.0, 30.0], 1.5: [11.0, 21.0, 31.1], 2.0: [10.0, 20.5, 29.6]})
    table, paired = difference_table(frame, [ALPHA], "fid", 0)
    np.testing.assert_allclose(table["difference"], [3.1 / 3, 0.1 / 3], rtol=1e-6)
    np.testing.assert_allclose(paired, [[1.0, 1.0, 1.1], [0.0, 0.5, -0.4]], atol=1e-9)
    # The standard deviation of 1, 1, 1.1 is 0.1 / sqrt(3), and t(0.975, 2) is 4.302653.
    assert table["half_width"][0] == pytest.approx(4.302653 * 0.1 / 3, rel=1e-6)
    assert list(table["significant"]) == [True, False]


def test_a_configuration_without_a_shared_seed_is_left_out_and_one_seed_has_no_interval() -> None:
    frame = runs({1.0: [10.0, "failed"], 1.5: ["failed", 21.0], 2.0: [12.0, "failed"]})
    table, _ = difference_table(frame, [ALPHA], "fid", 0)
    assert table[ALPHA].tolist() == [2.0]
    assert np.isnan(table["half_width"][0])
    assert not table["significant"][0]


def test_significant_differences_are_filled_and_the_collapse_breaks_the_axis() -> None:
    frame = runs(COLLAPSE)
    figure = paired_differences(frame, [ALPHA])
    table, _ = difference_table(frame, [ALPHA], "fid", 0)
    low, high = figure.axes
    filled, hollow = low.containers
    drawn = {
        name: list(container.lines[0].get_xdata(orig=False))  # type: ignore[attr-defined]
        for name, container in (("filled", filled), ("open", hollow))
    }
    assert drawn["filled"] == table[table["significant"]]["difference"].tolist()
    assert drawn["open"] == table[~table["significant"]]["difference"].tolist()
    assert same_color(hollow.lines[0].get_markerfacecolor(), "white")  # type: ignore[attr-defined]
    assert low.get_xlim()[0] < 0 < low.get_xlim()[1] < 40 < high.get_xlim()[0]
    assert [label.get_text() for label in low.get_yticklabels()] == ["1.25", "1.5", "1.75", "2.0"]
    assert overlapping(figure) == []


@pytest.mark.parametrize("metric", ["fid", "is"])
def test_the_map_has_the_numbers_and_outlines_what_may_be_best(metric: str) -> None:
    spread = [0.0, 0.3, -0.3]
    fid = {(cfg, steps): 20.0 + 10 * (cfg != 1.5) for cfg in (1.0, 1.5, 2.0) for steps in (4, 8)}
    fid[1.5, 8] = 20.1
    frame = runs({point: [value + each for each in spread] for point, value in fid.items()}, GRID)
    if metric == "is":
        frame["is"] = -frame["fid"]  # higher is better
    figure = heat_map(frame, AXES, metric)
    (panel,) = figure.axes
    sign = 1 if metric == "fid" else -1
    cells = {text.get_position(): text.get_text() for text in panel.texts}  # cfg has more values: along x
    assert cells == {
        (at, row): f"{sign * fid[cfg, steps]:.1f}"
        for at, cfg in enumerate((1.0, 1.5, 2.0))
        for row, steps in enumerate((4, 8))
    }
    outlines = sorted(
        (patch for patch in panel.patches if isinstance(patch, Rectangle)), key=lambda patch: -patch.get_linewidth()
    )
    # 20.1 differs from 20.0 by the same in each seed, so it is told apart, as the others are.
    assert [(round(box.get_x() + 0.5), round(box.get_y() + 0.5)) for box in outlines] == [(1, 0)]
    assert overlapping(figure) == []


def test_what_cannot_be_told_apart_has_a_thin_outline_and_divergence_is_named() -> None:
    frame = runs({(1.0, 4): [20.0, 21.0], (1.0, 8): [20.5, 20.6], (2.0, 4): [90.0, 91.0], (2.0, 8): ["diverged"]}, GRID)
    (panel,) = heat_map(frame, AXES).axes
    assert sorted(text.get_text() for text in panel.texts) == ["20.5", "20.6", "90.5", "div."]
    widths = sorted(patch.get_linewidth() for patch in panel.patches)
    assert len(widths) >= 2
    assert widths[-1] > 2 * widths[0]


def test_a_map_is_of_any_values() -> None:
    frame = runs({("linear", None): [20.0], ("constant", True): [21.0]}, "sampling.cfg_schedule scoring.x")
    for axis in ("sampling.cfg_schedule", "scoring.x"):
        frame[axis] = axis_column(frame[axis].tolist())
    (panel,) = heat_map(frame, ["sampling.cfg_schedule", "scoring.x"]).axes
    assert [label.get_text() for label in panel.get_yticklabels()] == ["constant", "linear"]
    assert [label.get_text() for label in panel.get_xticklabels()] == ["none", "true"]


def test_the_paper_s_models_are_its_main_table_s() -> None:
    """Compared with the facts that were read off the paper's summary."""
    models = {each["name"]: (each["seconds"], each["fid"]) for each in paper_speed()["models"]}
    assert models == {"EAR-B": (1, 2.83), "EAR-L": (1, 2.37), "EAR-H": (1, 1.97), "MAR": (10, 1.55)}


def test_the_fastest_for_their_quality_are_connected_and_named() -> None:
    frame = runs({4: [20.0, 22.0], 8: [15.0, 17.0], 16: [18.0, 19.0], 32: [10.0, 12.0]}, "sampling.steps")
    frame[SECONDS] = frame["sampling.steps"] / 10
    figure = speed_quality(frame, ["sampling.steps"])
    ours, paper = figure.axes
    line = next(line for line in ours.lines if line.get_linestyle() == "-" and len(line.get_xdata()) > 2)
    assert list(zip(line.get_xdata(), line.get_ydata(), strict=True)) == [(0.4, 21.0), (0.8, 16.0), (3.2, 11.0)]
    assert [text.get_text() for text in ours.texts] == ["steps = 4", "steps = 8", "steps = 32"]
    assert [text.get_text() for text in paper.texts] == ["EAR-B", "EAR-L", "EAR-H", "MAR"]
    assert overlapping(figure) == []


def test_times_below_a_tenth_of_a_second_are_milliseconds() -> None:
    frame = runs({4: [20.0], 8: [15.0]}, "sampling.steps").assign(**{SECONDS: [0.004, 0.008]})
    ours, _ = speed_quality(frame, ["sampling.steps"]).axes
    assert ours.get_xlabel().startswith("milliseconds")
    assert list(ours.containers[0].lines[0].get_xdata(orig=False)) == [4.0, 8.0]  # type: ignore[attr-defined]
