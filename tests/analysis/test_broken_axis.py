"""Where an axis is broken, on intervals whose answer is known."""

import pytest
from matplotlib.figure import Figure

from analysis.plots.broken_axis import MARGIN, SMALLEST_SHARE, find_break, panels

FID = [(15.0, 21.0), (19.0, 22.0), (18.0, 30.0), (26.0, 29.0), (80.0, 91.0)]


@pytest.mark.parametrize(
    ("values", "broken"),
    [
        ([0, 1, 2, 3], False),
        ([0, 1, 5, 10], False),  # a gap of half of the range is not more than half
        ([0, 1, 4.9, 10], True),
        ([10, 9, 5.1, 0], True),  # in any order
        ([20, 21, 23], False),  # two values on one side: nothing to flatten
        ([0, 1, 99, 100], False),
        ([], False),
    ],
)
def test_an_axis_is_broken_where_more_than_half_of_it_would_be_empty(values: list[float], broken: bool) -> None:
    assert (find_break([(value, value) for value in values]) is not None) == broken


def test_an_interval_is_never_cut() -> None:
    assert find_break([(0, 1), (1, 2), (2, 3), (90, 100)]) is not None
    assert find_break([(0, 1), (1, 2), (2, 95), (90, 100)]) is None


def test_both_sides_have_one_scale_and_hold_their_values() -> None:
    found = find_break(FID, floor=0)
    assert found is not None
    low, high, share = found.low, found.high, found.high_share
    assert (low[1] - low[0]) / (1 - share) == pytest.approx((high[1] - high[0]) / share)
    assert low[0] < 15 < 30 < low[1] < high[0] < 80 < 91 < high[1]
    # 15 to 30 and 80 to 91, with margins: 15 : 11
    assert share == pytest.approx(11 / 26)
    assert low[1] - low[0] == pytest.approx(15 * (1 + 2 * MARGIN))


def test_a_lone_value_has_a_quarter_of_the_axis() -> None:
    found = find_break([(3.55, 3.55), (3.73, 3.73), (4.10, 4.10), (4.32, 4.32), (188.1, 188.1)])
    assert found is not None
    assert found.high_share == SMALLEST_SHARE
    assert sum(found.high) / 2 == pytest.approx(188.1)


def test_an_axis_stays_above_its_floor() -> None:
    values = [(0.1, 0.1), (9.0, 9.0), (10.0, 10.0), (12.0, 12.0)]
    free, held = find_break(values), find_break(values, floor=0)
    assert free is not None
    assert held is not None
    assert free.low[0] < 0 == held.low[0]
    assert held.low[1] - held.low[0] == pytest.approx(free.low[1] - free.low[0])


@pytest.mark.parametrize("direction", ["x", "y"])
def test_panels_have_the_break_s_limits(direction: str) -> None:
    figure = Figure()
    parts, found = panels(figure, figure.add_gridspec(1, 1)[0], FID, direction)  # type: ignore[arg-type]
    assert found is not None
    limits = [panel.get_xlim() if direction == "x" else panel.get_ylim() for panel in parts]
    assert limits == [found.low, found.high]
    whole, none = panels(figure, figure.add_gridspec(1, 1)[0], FID[:4])
    assert (len(whole), none) == (1, None)
