"""The curve of a metric: where its points, intervals, seeds and marks stand."""

from itertools import chain

import numpy as np
import pytest
from plotted import ALPHA, COLLAPSE, means_in, overlapping, runs

from analysis.paper import paper_ablation
from analysis.plots.metric_curve import metric_curve
from analysis.plots.style import COLUMN, is_geometric, thinned
from sweeps.spec.confidence import half_width


def test_each_part_of_a_broken_panel_has_the_means_and_intervals() -> None:
    figure = metric_curve(runs(COLLAPSE), ALPHA, ["fid"], without_label=False, width=COLUMN)
    high, low = figure.axes
    expected = [float(np.mean(seeds)) for seeds in COLLAPSE.values()]  # type: ignore[arg-type]
    for panel in (low, high):
        xs, ys = means_in(panel)
        assert xs == [1.0, 1.25, 1.5, 1.75, 2.0]
        np.testing.assert_allclose(ys, expected)
        (bars,) = panel.containers[0].lines[2]  # type: ignore[attr-defined]
        ends = np.array([bar[:, 1] for bar in bars.get_segments()])
        widths = [half_width(seeds) for seeds in COLLAPSE.values()]  # type: ignore[arg-type]
        np.testing.assert_allclose(ends[:, 1] - ends[:, 0], 2 * np.array(widths, dtype=float))
        seeds = next(line for line in panel.lines if line.get_label() == "seeds")
        assert sorted(seeds.get_ydata()) == sorted(chain.from_iterable(COLLAPSE.values()))
    assert low.get_ylim()[1] < 40 < 70 < high.get_ylim()[0]  # 16 to 28 fill the lower part
    assert low.get_ylabel() == "FID ↓"


def test_the_paper_has_panels_of_its_own() -> None:
    paper = paper_ablation([ALPHA])
    figure = metric_curve(runs(COLLAPSE), ALPHA, paper=paper)
    assert paper is not None
    drawn = [panel for panel in figure.axes if panel.containers and panel.containers[0].lines[0].get_marker() == "D"]  # type: ignore[attr-defined]
    values = {tuple(means_in(panel)[1]) for panel in drawn}
    assert values == {tuple(map(float, paper.printed[metric])) for metric in ("fid", "is")}
    assert any("188.1" in [label.get_text() for label in panel.get_yticklabels()] for panel in drawn)
    assert overlapping(figure) == []


def test_a_single_seed_has_points_and_neither_intervals_nor_seeds() -> None:
    figure = metric_curve(runs({1.0: [20.0], 1.5: [21.0], 2.0: [23.0]}), ALPHA, ["fid"], without_label=False)
    (panel,) = figure.axes
    assert means_in(panel) == ([1.0, 1.5, 2.0], [20.0, 21.0, 23.0])
    assert [line.get_label() for line in panel.lines if line.get_label() == "seeds"] == []
    (bars,) = panel.containers[0].lines[2]  # type: ignore[attr-defined]
    assert all(not len(bar) or np.isnan(bar).any() for bar in bars.get_segments())


def test_divergence_is_marked_at_the_worse_edge() -> None:
    frame = runs({0.9: ["diverged", "diverged"], 1.0: [20.0, 21.0], 1.5: [22.0, "diverged"], 2.0: [24.0, 23.0]})
    for metric, edge in (("fid", 1.0), ("is", 0.0)):
        (panel,) = metric_curve(frame, ALPHA, [metric], without_label=False).axes
        crosses = [line for line in panel.lines if line.get_marker() == "x"]
        assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in crosses] == [(0.9, edge), (1.5, edge)]
        assert [text.get_text() for text in panel.texts] == ["diverged at step 7", "1 of 2 diverged"]


def test_where_nothing_finished_the_marks_remain() -> None:
    figure = metric_curve(runs({0.8: ["diverged"], 0.9: ["diverged"]}), ALPHA)
    assert [text.get_text() for panel in figure.axes for text in panel.texts] == ["diverged at step 7"] * 2


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([4, 8, 16], True),
        ([0.1, 0.25, 0.5, 1.0], True),
        ([1.0, 1.25, 1.5, 2.0, 3.0], False),
        ([1.0, 1.25, 1.5, 1.75, 2.0], False),
        ([0, 1, 10, 100], False),
        ([1, 100], False),
    ],
)
def test_the_parameter_s_axis_is_logarithmic_where_its_values_are_spaced_so(
    values: list[float], expected: bool
) -> None:
    assert is_geometric(values) == expected
    frame = runs({value: [20.0 + at] for at, value in enumerate(values)})
    panel = metric_curve(frame, ALPHA, ["fid"], without_label=False).axes[0]
    assert panel.get_xscale() == ("log" if expected else "linear")


def test_tick_labels_that_would_touch_are_left_out() -> None:
    names = ["1.0", "1.01", "1.5", "2.0"]
    assert thinned(names, [0, 0.01, 0.5, 1], 3) == ["1.0", "", "1.5", "2.0"]
    assert thinned(names, [0, 0.3, 0.6, 1], 3) == names
    assert thinned(names, [0, 0.3, 0.6, 1], 0.1) == ["1.0", "", "", "2.0"]
