"""Constrained domination, by cases whose answer is plain and by its laws."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.search.domination import Outcome, as_good_as, dominates, front, outcome

CASES: dict[str, tuple[list[Outcome], list[int]]] = {
    "nothing": ([], []),
    "one objective": ([Outcome(0, (3.0,)), Outcome(0, (1.0,)), Outcome(0, (2.0,))], [1]),
    "of equals the first": ([Outcome(0, (2.0,)), Outcome(0, (1.0,)), Outcome(0, (1.0,))], [1]),
    "a front": (
        [Outcome(0, (1.0, 4.0)), Outcome(0, (2.0, 2.0)), Outcome(0, (3.0, 2.0)), Outcome(0, (4.0, 1.0))],
        [0, 1, 3],
    ),
    "nowhere worse, once better": ([Outcome(0, (1.0, 2.0)), Outcome(0, (1.0, 1.0))], [1]),
    "equals on a front": ([Outcome(0, (1.0, 2.0)), Outcome(0, (2.0, 1.0)), Outcome(0, (1.0, 2.0))], [0, 1]),
    "feasible, however bad": ([Outcome(0.1, (1.0, 1.0)), Outcome(0, (9.0, 9.0))], [1]),
    "none feasible": ([Outcome(0.3, (1.0,)), Outcome(0.1, (9.0,)), Outcome(0.2, (5.0,))], [1]),
    "none feasible, as near": ([Outcome(0.1, (9.0, 9.0)), Outcome(0.1, (1.0, 1.0))], [0]),
}


@pytest.mark.parametrize("case", CASES)
def test_closed_cases(case: str) -> None:
    outcomes, expected = CASES[case]
    assert front(outcomes) == expected


def test_metrics_that_are_better_when_higher_are_turned_and_violations_added_up() -> None:
    assert outcome([20.0, 0.5], ["fid", "recall"]) == Outcome(0, (20.0, -0.5))
    assert outcome([0.5], ["recall_null"], [0.25, -3.0, 0.5]) == Outcome(0.75, (-0.5,))


few = st.integers(0, 3).map(float)  # so that ties come often
several = st.integers(1, 3).flatmap(
    lambda objectives: st.lists(st.builds(Outcome, few, st.tuples(*[few] * objectives)), max_size=12)
)


def alike(one: Outcome, other: Outcome) -> bool:
    return as_good_as(one, other) and as_good_as(other, one)


@given(several)
def test_the_front_is_what_nothing_dominates_each_once(outcomes: list[Outcome]) -> None:
    kept = front(outcomes)
    for number, each in enumerate(outcomes):
        dominated = any(dominates(other, each) for other in outcomes)
        repeated = any(alike(other, each) for other in outcomes[:number])
        assert (number in kept) is not (dominated or repeated)
        assert any(as_good_as(outcomes[other], each) for other in kept)


@given(several)
def test_domination_is_an_order(outcomes: list[Outcome]) -> None:
    for one in outcomes:
        assert not dominates(one, one)
        for other in outcomes:
            assert not (dominates(one, other) and dominates(other, one))
            for third in outcomes:
                assert not (dominates(one, other) and dominates(other, third)) or dominates(one, third)


@given(several)
def test_one_objective_or_nothing_feasible_leaves_one(outcomes: list[Outcome]) -> None:
    if outcomes and (len(outcomes[0].losses) == 1 or all(each.violation for each in outcomes)):
        assert len(front(outcomes)) == 1
