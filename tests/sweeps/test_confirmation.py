"""What a search measures again at the end: winner and runner-up, or the Pareto front."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from searching import searching, text
from simulated import plan_of, work_through

from sweeps.search.confirmation import MOST_CONFIRMED, spread
from sweeps.search.search import Search
from sweeps.search.study_summary import describe, drawn_runs
from sweeps.spec.runs import PlannedRun

pytestmark = pytest.mark.usefixtures("no_waiting")

FRONT = "  objectives: [fid, recall]\n  confirmation: {seeds: 3, images: 4000}\n"


def again(run: PlannedRun) -> bool:
    return run.config.evaluation.images == 4000


def lucky_fid(run: PlannedRun) -> float:
    """Less where it is cooler, and a little less of a smaller alpha; 10 more at the second look, seeds 1000 to 1002."""
    scoring: Any = run.config.scoring
    luck = 10 + run.seed - 1001 if again(run) else 0
    return float(20 * run.config.sampling.infer_temperature + 3 * scoring.alpha + luck)


def lucky_recall(run: PlannedRun) -> float:
    """More where it is warmer; 0.1 less at the second look."""
    return run.config.sampling.infer_temperature - (0.1 if again(run) else 0)


def front_of(search: Search) -> set[int]:
    """By the definition: no other trial is as good in both objectives and better in one."""
    points = {trial.number: trial.values for trial in search.study.trials()}
    return {
        number
        for number, (fid, recall) in points.items()
        if not any(f <= fid and r >= recall and (f, r) != (fid, recall) for f, r in points.values())
    }


def searched_front(folder: Path, trials: int = 4, extras: int = 2, more: str = FRONT) -> tuple[Search, Any]:
    yaml = text("random", more, trials=trials).replace("evaluations: 2", f"evaluations: {extras}")
    search, work, hands = searching(folder, yaml, fid=lucky_fid, recall=lucky_recall)
    work_through([work], hands)
    assert work.done
    return search, hands


def test_every_member_of_a_small_front_is_measured_again_by_every_objective(tmp_path: Path) -> None:
    search, hands = searched_front(tmp_path)
    found = search.study.noted("confirmation")
    assert {each["trial"] for each in found} == front_of(search)
    assert 2 < len(found) < MOST_CONFIRMED
    assert [each["searched"]["fid"] for each in found] == sorted(each["searched"]["fid"] for each in found)
    for each in found:
        trial = search.study.trial(each["trial"])
        assert each["parameters"] == trial.params
        assert each["searched"] == {"fid": trial.values[0], "recall": trial.values[1]}
        assert each["mean"]["fid"] == pytest.approx(trial.values[0] + 10)
        assert each["mean"]["recall"] == pytest.approx(trial.values[1] - 0.1)
        assert each["half_width"]["fid"] == pytest.approx(4.302653 / 3**0.5)  # Student's t of 2 degrees of freedom
        assert each["half_width"]["recall"] == pytest.approx(0)
    trained = ("scoring.alpha", "optimizer.generator_lr_scale")
    trainings = {tuple(each["parameters"][name] for name in trained) for each in found}
    assert len(trainings) < len(found)  # some differ in the temperature only, and share what is trained for them
    assert len(hands.trained) == 2 * (4 + 3 * len(trainings))  # two stages each
    assert set(hands.trained.values()) == set(hands.evaluated.values()) == {1}


def test_of_a_large_front_eight_are_measured_again_with_both_ends(tmp_path: Path) -> None:
    search, _ = searched_front(tmp_path, trials=6, extras=5)
    front = sorted(front_of(search), key=lambda number: search.study.trial(number).values[0])
    assert len(front) > MOST_CONFIRMED
    found = [each["trial"] for each in search.study.noted("confirmation")]
    assert len(set(found)) == MOST_CONFIRMED == 8
    assert set(found) < set(front)
    assert (found[0], found[-1]) == (front[0], front[-1])
    assert search.progress_note() == f"6 of 6 proposed, {len(front)} on the Pareto front"


def test_what_breaks_a_constraint_is_on_no_front(tmp_path: Path) -> None:
    search, _ = searched_front(tmp_path, more=FRONT + "  constraints: {fid: {at_most: 20}}\n")
    found = search.study.noted("confirmation")
    assert all(each["searched"]["fid"] <= 20 for each in found)
    assert 0 < len(found) < len(front_of(search)) < MOST_CONFIRMED
    assert {each["trial"] for each in found} == {n for n in front_of(search) if search.study.trial(n).values[0] <= 20}


def test_nothing_feasible_nothing_measured_again(tmp_path: Path) -> None:
    search, _ = searched_front(tmp_path, more=FRONT + "  constraints: {fid: {at_most: 1}}\n")
    assert search.study.noted("confirmation") is None
    assert search.progress_note() == "4 of 4 proposed, 0 on the Pareto front"


def test_a_front_in_words(tmp_path: Path) -> None:
    search, _ = searched_front(tmp_path)
    first, *_ = search.study.noted("confirmation")
    fid, recall = first["searched"].values()
    lines = describe(plan_of(tmp_path, text(more=FRONT)).sweep, tmp_path / "s")
    assert lines[0] == f"12 trials: 12 complete; {len(front_of(search))} on the Pareto front."
    assert lines[1].startswith(f"Pareto front, trial {first['trial']}: alpha ")
    assert lines[2].strip() == (
        f"fid {fid:.2f}, recall {recall:.3f} in the search; "
        f"fid {fid + 10:.2f} ± 2.48, recall {recall - 0.1:.3f} ± 0.000 (95%) over 3 fresh seeds and 4000 images each"
    )
    assert len(lines) == 1 + 2 * len(search.study.noted("confirmation"))


def test_the_plan_counts_as_many_confirmations_as_there_can_be(tmp_path: Path) -> None:
    def confirmations(more: str, trials: int) -> int:
        plan = plan_of(tmp_path, text(more=more, trials=trials))
        assert plan.sweep.search is not None
        return sum(run.seed > 0 for run in drawn_runs(plan.sweep, plan.configurations))

    assert confirmations("  objectives: [fid]\n", 12) == 3 * 2
    assert confirmations("  objectives: [fid]\n", 1) == 3 * 1
    assert confirmations(FRONT, 12) == 3 * 8
    assert confirmations(FRONT, 2) == 3 * 6  # two proposals with two further evaluations each


@pytest.mark.parametrize("objectives", [["fid"], ["fid", "recall"]])
def test_a_confirmation_of_an_earlier_version_is_read_and_written_anew(objectives: list[str], tmp_path: Path) -> None:
    """It held one number, of the first objective, where there is one for each now; and of several no front."""
    more = FRONT.replace("fid, recall", ", ".join(objectives))
    search, hands = searched_front(tmp_path, more=more)
    wanted = search.study.noted("confirmation")
    known = [
        {**each, **{name: each[name]["fid"] for name in ("searched", "mean", "half_width")}} for each in wanted[:2]
    ]
    sweep = plan_of(tmp_path, text(more=more)).sweep
    said = describe(sweep, tmp_path / "s")
    search.study.note("confirmation", known)
    assert describe(sweep, tmp_path / "s") == (said if objectives == ["fid"] else said[:1])
    search, _ = searched_front(tmp_path, more=more)
    assert search.study.noted("confirmation") == wanted
    assert set(hands.evaluated.values()) == {1}


@given(st.lists(st.integers(0, 100), min_size=1, max_size=20), st.integers(2, 8))
def test_a_spread_has_both_ends_and_nothing_twice(values: list[int], most: int) -> None:
    points = sorted(map(float, values))
    picked = spread(points, most)
    assert picked == sorted(set(picked))
    assert len(picked) == min(most, len(points))
    assert (points[picked[0]], points[picked[-1]]) == (points[0], points[-1])


def test_a_spread_is_even_along_the_values_not_the_ranks() -> None:
    assert spread([0, 1, 2, 3, 10, 20, 28, 30], 4) == [0, 4, 5, 7]
    assert spread([0, 1, 2, 100], 3) == [0, 2, 3]
