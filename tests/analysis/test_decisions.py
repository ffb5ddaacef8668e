"""Verdicts from numbers: their error rates by simulation, and their agreement with the findings of a sweep's report."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from scipy import stats

from analysis.comparison import holm
from analysis.paper import paper_ablation
from analysis.paper.decisions import (
    PairedTest,
    best_at,
    decide,
    decide_by_seed,
    faster,
    lower_than,
    ordered,
    outcome_of,
)
from analysis.reproduction import reproduction
from analysis.results import METRICS
from analysis.statistics import summarise

REPEATS = 20_000
ARMS = ("α 1.0", "α 1.25", "α 1.5", "α 1.75", "α 2.0")
Array = npt.NDArray[np.float64]


def draw(means: Sequence[float], seeds: int, rng: np.random.Generator) -> Array:
    """[repeats, arms, seeds]: the arms' means, luck that a seed's arms share, and noise of variance 1 of their own."""
    luck = rng.normal(0, 3, (REPEATS, 1, seeds))
    return np.array(means)[:, None] + luck + rng.normal(0, 1, (REPEATS, len(means), seeds))


def outcomes(differences: Array) -> Counter[str]:
    """The share of each outcome; `differences` [repeats, tests, seeds] are positive as the claim says."""
    p = stats.ttest_1samp(differences, 0, axis=-1).pvalue
    means = differences.mean(-1)
    counts = Counter(outcome_of(holm(list(each)), list(mean)) for each, mean in zip(p, means, strict=True))
    return Counter({outcome: count / REPEATS for outcome, count in counts.items()})


def steps(values: Array) -> Array:
    return values[:, 1:] - values[:, :-1]


def above_first(values: Array) -> Array:
    return values[:, 1:] - values[:, :1]


@pytest.mark.parametrize("seeds", [2, 3, 8])
@pytest.mark.parametrize(("arms", "differences"), [(2, steps), (5, steps), (3, steps), (5, above_first)])
def test_where_nothing_differs_at_most_5_percent_are_decided(seeds: int, arms: int, differences: object) -> None:
    values = draw([20.0] * arms, seeds, np.random.default_rng(seeds + arms))
    found = outcomes(differences(values))  # type: ignore[operator]
    # 5%, and three standard deviations of the share of 20,000 repeats.
    assert found["reproduces"] + found["contradicted"] <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / REPEATS)


def test_tuning_both_sides_keeps_the_level() -> None:
    """Each side takes its best of four settings with each seed: nothing differs, and at most 5% are decided."""
    values = draw([20.0] * 8, 3, np.random.default_rng(6))
    best = np.stack([values[:, :4].min(1), values[:, 4:].min(1)], axis=1)
    found = outcomes(steps(best))
    assert found["reproduces"] + found["contradicted"] <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / REPEATS)


def test_one_false_step_is_not_called_an_order() -> None:
    """Four of five steps are there; the whole order is claimed in at most 5%, and almost never contradicted."""
    values = draw([20, 30, 40, 40, 50], 5, np.random.default_rng(0))
    found = outcomes(steps(values))
    assert found["reproduces"] + found["contradicted"] <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / REPEATS)


def test_strong_effects_are_decided() -> None:
    rng = np.random.default_rng(1)
    assert outcomes(steps(draw([20, 26, 32, 38, 44], 8, rng)))["reproduces"] > 0.99
    assert outcomes(steps(draw([20, 26, 20, 26, 32], 8, rng)))["contradicted"] > 0.99
    assert outcomes(steps(draw([20, 30], 3, rng)))["reproduces"] > 0.8


def by_seed(values: Array) -> list[tuple[str, dict[int, float]]]:
    return [(label, dict(enumerate(row))) for label, row in zip(ARMS, values.tolist(), strict=False)]


def test_the_simulation_decides_as_the_verdicts_do() -> None:
    for number, values in enumerate(draw([20, 22, 24, 26, 28], 5, np.random.default_rng(2))[:50]):
        tests = ordered(by_seed(values), rises=True, metric="FID")
        p = stats.ttest_1samp(steps(values[None])[0], 0, axis=-1).pvalue
        assert [test.p for test in tests] == pytest.approx(list(p)), number
        assert decide(tests).outcome == outcome_of(holm(list(p)), list(steps(values[None])[0].mean(-1)))


def test_the_verdict_on_the_order_is_that_of_the_sweeps_report() -> None:
    """`ear report alpha` and `ear paper report` say the same of the same runs."""
    paper = paper_ablation(["scoring.alpha"])
    assert paper is not None
    said: Counter[str] = Counter()
    rng = np.random.default_rng(3)
    for means in ([20, 23, 26, 29, 90], [20, 26, 23, 29, 90], [20, 20, 20, 20, 20]):
        for values in draw(means, 5, rng)[:12]:
            rows = [
                {"scoring.alpha": alpha, "seed": seed, "outcome": "finished", "diverged_at": None}
                | dict.fromkeys(METRICS, 0.7)
                | {"fid": fid}
                for alpha, row in zip(paper.values, values.tolist(), strict=True)
                for seed, fid in enumerate(row)
            ]
            frame = pd.DataFrame(rows)
            text = " ".join(reproduction(frame, summarise(frame, ["scoring.alpha"], METRICS), paper))
            outcome = decide(ordered(by_seed(values), rises=True, metric="FID")).outcome
            assert ("The order by FID reproduces" in text) == (outcome == "reproduces"), text
            assert ("This contradicts the paper" in text) == (outcome == "contradicted"), text
            said[outcome] += 1
    assert min(said["reproduces"], said["contradicted"], said["undecided"]) > 3


def test_one_seed_decides_nothing() -> None:
    decision = decide(lower_than(("a", {0: 1.0}), ("b", {0: 100.0}), "FID"))
    assert (decision.outcome, decision.seeds_needed) == ("undecided", "")
    assert decision.test == "no paired t-test: it takes two common seeds, and there is one"
    assert decide_by_seed([True], "gone").outcome == "undecided"
    assert decide_by_seed([], "gone").outcome == "undecided"


def test_only_seeds_that_both_sides_have_are_compared() -> None:
    (test,) = lower_than(("a", {0: 1.0, 1: 2.0, 5: 9.0}), ("b", {1: 4.0, 0: 2.0, 7: 0.0}), "FID")
    assert test.differences == (1.0, 2.0)
    assert test.words == "FID with a below b"


def test_directions() -> None:
    arms = [("a", {0: 1.0, 1: 1.0}), ("b", {0: 2.0, 1: 2.5})]
    assert [test.mean for test in ordered(arms, rises=True, metric="FID")] == [1.25]
    assert [test.mean for test in ordered(arms, rises=False, metric="FID")] == [-1.25]
    assert [test.mean for test in best_at(arms[0], arms[1:], higher=False, metric="FID")] == [1.25]
    assert [test.mean for test in best_at(arms[0], arms[1:], higher=True, metric="IS")] == [-1.25]
    (test,) = faster(("a", {0: 1.0, 1: 2.0}), ("b", {0: 10.0, 1: 20.0}))
    assert test.differences == pytest.approx((np.log(10), np.log(10)))


@pytest.mark.parametrize(
    ("held", "outcome"),
    [([True, True], "reproduces"), ([False, False, False], "contradicted"), ([True, False, True], "undecided")],
)
def test_qualitative_changes_need_every_seed(held: list[bool], outcome: str) -> None:
    assert decide_by_seed(held, "gone").outcome == outcome


def test_an_undecided_claim_says_how_many_seeds_it_takes() -> None:
    """Simulated: the power at that number of seeds is at least 80%, and below it is less."""
    rng = np.random.default_rng(4)
    test = PairedTest("a below b", tuple(1.0 + 1.5 * (sample := rng.normal(size=6)) - 1.5 * sample.mean()))
    decision = decide([test])
    assert decision.outcome == "undecided"
    seeds = int(decision.seeds_needed)
    scale = float(np.std(test.differences, ddof=1))
    power = [
        np.mean(stats.ttest_1samp(rng.normal(1.0, scale, (REPEATS, n)), 0, axis=-1).pvalue < 0.05)
        for n in (seeds - 2, seeds)
    ]
    assert power[0] < 0.8 < power[1] + 0.01


def test_a_hopeless_difference_says_so() -> None:
    rng = np.random.default_rng(5)
    sample = rng.normal(size=5)
    tests = [PairedTest("a below b", tuple(0.01 + sample - sample.mean()))]
    assert decide(tests).seeds_needed == "more than 100"
