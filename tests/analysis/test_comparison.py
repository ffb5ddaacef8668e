"""Which configurations are told apart by seed, and the sentences that say so, on runs whose numbers are written out."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from analysis.comparison import by_seed, compare, differences, holm, neighbours, not_worse
from analysis.findings import findings
from analysis.results import METRICS
from analysis.statistics import p_value, seed_range, summarise
from sweeps.spec.confidence import half_width

CFG, STEPS = "sampling.cfg", "sampling.steps"
AXES = [CFG, STEPS]
UNKNOWN_TO_THE_PAPER = "The paper's summary gives no numbers for this ablation. "
FEW = " With so few seeds, only a difference that is nearly equal in every seed is significant."
GRID = [(cfg, steps) for cfg in (1.0, 2.0, 3.0) for steps in (4, 8, 16)]
# Of seeds 0, 1, 2: luck that all configurations share, and small deviations from it. Student's p of two degrees of
# freedom is 1 - t / sqrt(2 + t²), which `two_degrees` computes.
LUCK = np.array([0.0, 10.0, 20.0])
WOBBLE = np.array([-0.1, 0.0, 0.1])
TILT = 30 * WOBBLE  # of which nothing can be told


def runs(fid: Mapping[tuple[object, ...], Sequence[float | None]], axes: list[str]) -> pd.DataFrame:
    """A frame of runs: configuration -> FID by seed, None for a diverged one, NaN for one that has not ended."""
    rows = []
    for values, numbers in fid.items():
        for seed, number in enumerate(numbers):
            metrics = dict.fromkeys(METRICS, math.nan if number is None else number)
            ended = {"seed": seed, "outcome": "diverged" if number is None else "finished", "diverged_at": math.nan}
            if number is None or not math.isnan(number):
                rows.append(dict(zip(axes, values, strict=True)) | ended | metrics)
    return pd.DataFrame(rows)


def line(*fid: Sequence[float | None]) -> pd.DataFrame:
    """Runs along one axis: CFG 1.0, 2.0, ... with their FID by seed."""
    return runs({(1.0 + at,): numbers for at, numbers in enumerate(fid)}, [CFG])


def words(frame: pd.DataFrame, axes: list[str]) -> str:
    text = findings(frame, axes, None)
    assert text.startswith(UNKNOWN_TO_THE_PAPER)
    return text.removeprefix(UNKNOWN_TO_THE_PAPER)


def rows_of(frame: pd.DataFrame, axes: list[str]) -> list[pd.Series]:
    return [row for _, row in summarise(frame, axes, METRICS).iterrows()]


def two_degrees(t: float) -> float:
    return 1 - t / math.sqrt(2 + t * t)


def test_p_values_are_students() -> None:
    # One degree of freedom is Cauchy's distribution: 1, 3 have the mean 2 and the standard error 1.
    assert p_value([1.0, 3.0]) == pytest.approx(1 - 2 / math.pi * math.atan(2), rel=1e-12)
    assert p_value([-1.0, -3.0]) == p_value([1.0, 3.0])
    # 1, 2, 3 have the mean 2 and the standard error 1 / sqrt(3).
    assert p_value([1.0, 2.0, 3.0]) == pytest.approx(two_degrees(2 * math.sqrt(3)), rel=1e-12)
    assert p_value([5.0]) is None
    assert p_value([]) is None


def test_equal_differences_are_none_or_certain() -> None:
    assert p_value([0.0, 0.0, 0.0]) == 1
    assert p_value([0.5, 0.5]) == 0


@pytest.mark.parametrize("count", [2, 3, 10])
def test_p_is_below_5_percent_where_0_is_outside_the_interval(count: int) -> None:
    values = np.linspace(-1, 1, count)
    edge = half_width(list(values))
    assert edge is not None
    for mean, outside in ((0.999 * edge, False), (1.001 * edge, True)):
        p = p_value(list(values + mean))
        assert p is not None
        assert (p < 0.05) == outside


def test_holm_finds_what_his_steps_allow() -> None:
    # Against 0.05 / 4, / 3, / 2, / 1 in order: 0.005 and 0.015 pass, 0.03 does not, and nothing after it.
    assert holm([0.015, 0.04, 0.03, 0.005]) == [True, False, False, True]
    assert holm([0.03, 0.04, 0.001]) == [False, False, True]
    assert holm([0.04]) == [True]
    assert holm([]) == []


def test_holm_errs_in_one_of_twenty_families_at_most() -> None:
    # 6 configurations on a line without any difference: 5 pairs of neighbours, which share configurations.
    draws = np.random.default_rng(0).normal(size=(400, 6, 4))
    p_values = [[p_value(list(one - other)) or 0 for one, other in pairwise(draw)] for draw in draws]
    # Binomial(400, 0.05) has a standard deviation of 0.011; without a correction one in five families errs.
    assert np.mean([any(holm(family)) for family in p_values]) < 0.05 + 3 * 0.011
    assert np.mean([min(family) < 0.05 for family in p_values]) > 0.15


def test_runs_are_laid_out_by_seed_in_the_summarys_order() -> None:
    axes = [STEPS]
    frame = runs({(None,): [9.0, 8.0, 7.0], (8,): [1.0, None, 3.0], (4,): [math.nan, 5.0, 6.0]}, axes)
    frame = frame.sample(frac=1, random_state=0)
    values = by_seed(frame, axes, "fid")
    nan = math.nan
    assert list(values.index) == [0, 1, 2]
    np.testing.assert_array_equal(values, [[nan, 1, 9], [5, nan, 8], [6, 3, 7]])
    means = [row["fid"] for row in rows_of(frame, axes)]
    np.testing.assert_array_equal(values.mean(), means)


def test_differences_are_of_the_seeds_that_both_finished() -> None:
    frame = line([10.0, None, 30.0, 40.0], [9.0, 19.0, None, 37.0], [None, None, None, None])
    one, other, nothing = rows_of(frame, [CFG])
    values = by_seed(frame, [CFG], "fid")
    assert differences(values, one, other) == [1.0, 3.0]
    assert differences(values, one, nothing) == []
    found = compare([(one, other)], values)
    assert (len(found.apart), len(found.close), len(found.unknown), found.seeds) == (0, 1, 0, "2")
    found = compare([(one, nothing)], values)
    assert (len(found.apart), len(found.close), len(found.unknown), found.seeds) == (0, 0, 1, "0")


def test_shared_luck_does_not_hide_a_small_difference() -> None:
    frame = line(10 + LUCK, 11 + LUCK + WOBBLE)
    one, other = rows_of(frame, [CFG])
    assert min(one["fid_ci"], other["fid_ci"]) > 24  # each interval alone, 4.30 * 10 / sqrt(3)
    assert words(frame, [CFG]) == "Paired by seed over 3 seeds, FID tells 1.0 and 2.0 apart (95% confidence)."


def test_luck_that_is_not_shared_hides_it() -> None:
    # The differences are 21, 1 and -19.
    assert words(line(10 + LUCK, 11 + LUCK[::-1]), [CFG]) == (
        f"Paired by seed over 3 seeds, FID can't tell 1.0 and 2.0 apart (95% confidence).{FEW}"
    )


def test_a_constant_difference_is_told_apart_and_none_is_not() -> None:
    assert "tells 1.0 and 2.0 apart" in words(line([10.0, 20.0], [10.5, 20.5]), [CFG])
    assert "can't tell 1.0 and 2.0 apart" in words(line([10.0, 20.0], [10.0, 20.0]), [CFG])


def test_a_pair_can_pass_alone_and_fail_among_others() -> None:
    # 0.7, 1, 1.3: t is 1 / (0.3 / sqrt(3)), p 0.0287, under 0.05 but over 0.05 / 2.
    p = two_degrees(math.sqrt(3) / 0.3)
    assert 0.025 < p < 0.05
    first, second = 10 + LUCK, 11 + LUCK + 3 * WOBBLE
    assert "tells 1.0 and 2.0 apart" in words(line(first, second), [CFG])
    third = second + TILT
    assert words(line(first, second, third), [CFG]).startswith(
        "Paired by seed over 3 seeds, FID tells none of 2 pairs of neighbours apart "
        f"(95% confidence for all together; taken one by one, 1).{FEW} The lowest mean FID is"
    )


def test_pairs_not_told_apart_are_named_where_they_are_few() -> None:
    # CFG 2 is 1 above CFG 1 with p 0.0033; 3 is the same as 2 on average, and 4 is 1 above 3 again.
    second = 11 + LUCK + WOBBLE
    third = second + TILT
    # Four configurations, three comparisons with the best: only the second is surely above it.
    assert words(line(10 + LUCK, second, third, third + 1 + WOBBLE), [CFG]) == (
        "Paired by seed over 3 seeds, FID tells 2 of 3 pairs of neighbours apart (95% confidence for all together). "
        f"It can't tell apart 2.0 and 3.0.{FEW} The lowest mean FID is 20.00 ± 24.84, at cfg 1.0; 2 of 3 other "
        "configurations can't be told apart from it (95% confidence that the truly best is among these 3)."
    )


def test_where_all_differ_nothing_is_added() -> None:
    frame = line(*(10 + at + LUCK + (at % 2) * WOBBLE for at in range(4)))
    assert words(frame, [CFG]) == (
        "Paired by seed over 3 seeds, FID tells all 3 pairs of neighbours apart (95% confidence for all together)."
    )


def test_many_pairs_are_counted_and_the_best_named() -> None:
    # Of the 9 configurations each row is 1 above the last, surely, and steps make no difference: 6 of 12 pairs differ.
    fid = {(cfg, steps): 10 + cfg + LUCK + steps * WOBBLE for cfg, steps in GRID}
    assert words(runs(fid, AXES), AXES).startswith(
        "Paired by seed over 3 seeds, FID tells 6 of 12 pairs of neighbours apart (95% confidence for all together). "
        "It can't tell apart 1.0, 4 and 1.0, 8; 1.0, 8 and 1.0, 16; 2.0, 4 and 2.0, 8;"
    )
    fid[(3.0, 16)] = fid[(2.0, 16)] + [-1.0, 0.0, 1.1]  # a seventh
    assert words(runs(fid, AXES), AXES).startswith(
        "Paired by seed over 3 seeds, FID tells 5 of 12 pairs of neighbours apart (95% confidence for all together)."
        f"{FEW} The lowest mean FID is 21.00 ± "
    )


def test_all_or_none_can_be_told_apart_from_the_best() -> None:
    best = 10 + LUCK
    # Two that are 1 above the best, not told apart from each other: 2 of 2 others are told apart.
    frame = line(best, best + 1 + WOBBLE, best + 1 - WOBBLE)
    assert words(frame, [CFG]).endswith(
        "The lowest mean FID is 20.00 ± 24.84, at cfg 1.0; "
        "both other configurations are told apart from it (95% confidence)."
    )
    frame = line(best, best + 0.1 + TILT, best + 0.1 - TILT)
    assert words(frame, [CFG]).endswith(
        "both other configurations can't be told apart from it (95% confidence that the truly best is among these 3)."
    )


def test_comparisons_with_the_best_are_corrected_for_their_number() -> None:
    best = 10 + LUCK
    # p 0.0287, and 0.0033: of one comparison the first is told apart, of two it is not, though Holm's second step,
    # at 5%, would allow it.
    barely, surely = best + 1 + 3 * WOBBLE, best + 1 + WOBBLE
    frame = line(best, barely, surely)
    winner, *others = rows_of(frame, [CFG])
    values = by_seed(frame, [CFG], "fid")
    assert [row[CFG] for row in not_worse(winner, others, values)] == [2.0]
    assert not_worse(winner, others[:1], values) == []


def test_the_truly_best_is_lost_in_one_of_twenty_at_most() -> None:
    # 6 equal configurations, of which the first counts as the best: whichever wins, it must stay.
    lost = 0
    for draw in np.random.default_rng(1).normal(size=(400, 6, 4)):
        values = pd.DataFrame(draw.T)
        rows = [pd.Series({"fid": numbers.mean()}, name=at) for at, numbers in enumerate(draw)]
        winner = min(rows, key=lambda row: float(row["fid"]))
        kept = [row.name for row in not_worse(winner, [row for row in rows if row is not winner], values)]
        lost += 0 not in [winner.name, *kept]
    assert lost <= 0.05 * 400


def test_a_configuration_below_the_best_on_common_seeds_is_kept() -> None:
    # The first wins by its fourth seed alone; the second is 1 below it, surely, where both finished.
    frame = line([10.0, 20.0, 30.0, 0.0], [9.0, 19.1, 28.9, None])
    winner, other = rows_of(frame, [CFG])
    values = by_seed(frame, [CFG], "fid")
    assert winner["fid"] < other["fid"]
    assert (p_value(differences(values, winner, other)) or 1) < 0.05
    assert [row[CFG] for row in not_worse(winner, [other], values)] == [2.0]


def test_missing_seeds_leave_the_common_ones() -> None:
    first, second = 10 + LUCK, 11 + LUCK + WOBBLE
    frame = line([*first, None, 70.0], [*second, 5.0, math.nan], [*(second + 1 + WOBBLE), 6.0, 90.0])
    # 1.0 and 2.0 share three seeds, 2.0 and 3.0 four: 5 and 6 of seed 3 differ by 1 as well.
    assert words(frame, [CFG]) == (
        "Paired by seed over 3 to 4 seeds, FID tells both pairs of neighbours apart (95% confidence for all together)."
    )


def test_one_common_seed_says_nothing() -> None:
    first, second = 10 + LUCK, 11 + LUCK + WOBBLE
    frame = line(first, second, [None, None, 90.0])
    assert words(frame, [CFG]) == (
        "Paired by seed over 3 seeds, FID tells 1.0 and 2.0 apart (95% confidence). "
        "Nothing can be said about 2.0 and 3.0: too few finished seeds in common."
    )
    winner, *others = rows_of(frame, [CFG])
    assert [row[CFG] for row in not_worse(winner, others, by_seed(frame, [CFG], "fid"))] == [3.0]
    assert words(line([10.0, 20.0, None], [None, 30.0, 40.0]), [CFG]) == (
        "No two neighbouring configurations share two finished seeds, so none can be told apart."
    )


def test_many_pairs_without_common_seeds_are_counted() -> None:
    fid: dict[tuple[object, ...], list[float | None]] = {(float(cfg),): [None, None, 5.0] for cfg in range(3, 10)}
    fid |= {(1.0,): [10.0, 20.0, 30.0], (2.0,): [11.0, 21.1, 31.2]}
    assert words(runs(fid, [CFG]), [CFG]).endswith(
        "Nothing can be said about 7 more pairs: too few finished seeds in common."
    )


def test_the_best_can_have_a_single_seed() -> None:
    close = 10 + LUCK
    assert words(line(close, close + TILT, [None, 5.0, None]), [CFG]).endswith(
        "The lowest FID is 5.00, at cfg 3.0, where a single seed finished: nothing can be told apart from it."
    )


def test_without_pairs_nothing_is_judged() -> None:
    assert words(line([10.0, 20.0], [None, None]), [CFG]) == (
        "No two neighbouring configurations have finished, so there is no difference to judge."
    )


@pytest.mark.parametrize("seeds", [[10.0], [10.0, None]])
def test_a_single_finished_seed_is_no_comparison(seeds: list[float | None]) -> None:
    assert words(line(seeds, seeds), [CFG]).startswith("With one seed there is no interval")


def test_more_than_few_seeds_bring_no_warning() -> None:
    text = words(line([10.0, 20.0, 30.0, 40.0], [30.0, 20.0, 10.0, 41.0]), [CFG])
    assert text == "Paired by seed over 4 seeds, FID can't tell 1.0 and 2.0 apart (95% confidence)."


def test_neighbours_are_one_step_of_one_axis_apart() -> None:
    frame = runs({(cfg, steps): [1.0] for cfg in (1.0, 2.0) for steps in (None, 4, 8)}, AXES)
    names = [
        tuple((row[CFG], None if pd.isna(row[STEPS]) else row[STEPS]) for row in pair)
        for pair in neighbours(summarise(frame, AXES, METRICS), AXES)
    ]
    along_cfg = [((1.0, steps), (2.0, steps)) for steps in (4, 8, None)]
    along_steps = [((cfg, one), (cfg, other)) for cfg in (1.0, 2.0) for one, other in ((4, 8), (8, None))]
    assert names == along_cfg + along_steps


def test_whole_numbers_stay_whole_beside_fractions() -> None:
    frame = runs({(1.0, 4): [10.0, 12.0], (1.0, 8): [11.0, 11.5]}, AXES)
    assert "FID can't tell 1.0, 4 and 1.0, 8 apart" in words(frame, AXES)


def test_seed_counts_that_differ_are_a_range() -> None:
    assert seed_range([3, 1, 2]) == "1 to 3"
    assert seed_range([3, 3]) == "3"
