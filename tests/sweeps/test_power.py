"""The power of paired tests, against integration, published sample sizes and simulated experiments."""

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy import integrate, stats

from sweeps.spec.power import POWER, detectable_difference, power, seeds_needed


def integrated(noncentrality: float, seeds: int, comparisons: int) -> float:
    """P(|Z + noncentrality| > t S) with Z standard normal and S² chi-squared over its degrees of freedom."""
    freedom = seeds - 1
    critical = stats.t.isf(0.025 / comparisons, freedom)

    def density(scale: float) -> float:
        tails = stats.norm.sf(critical * scale - noncentrality) + stats.norm.sf(critical * scale + noncentrality)
        return float(stats.chi.pdf(scale * math.sqrt(freedom), freedom) * math.sqrt(freedom) * tails)

    edges = np.linspace(0, stats.chi.isf(1e-12, freedom) / math.sqrt(freedom), 10)
    return sum(integrate.quad(density, low, high)[0] for low, high in pairwise(edges))


@pytest.mark.parametrize("comparisons", [1, 14])
@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
def test_power_is_the_integral(seeds: int, comparisons: int) -> None:
    """At values where scipy's noncentral t has NaN in its lower tail, too."""
    for noncentrality in (0.0, 5.0, 7.7):
        expected = integrated(noncentrality, seeds, comparisons)
        assert power(noncentrality / math.sqrt(seeds), 1.0, seeds, comparisons) == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize(("effect", "seeds"), [(0.2, 199), (0.5, 34), (1.0, 10)])
def test_seeds_needed_are_those_of_published_tables(effect: float, seeds: int) -> None:
    """As G*Power gives them for a matched-pairs t-test, two-sided 5%, power 80%."""
    assert seeds_needed(effect, 1.0) == seeds
    assert seeds_needed(-3 * effect, 3.0) == seeds


@pytest.mark.parametrize(("seeds", "comparisons"), [(2, 1), (3, 1), (3, 14), (10, 1)])
def test_simulated_experiments_find_the_detectable_difference_in_80_percent(seeds: int, comparisons: int) -> None:
    difference = detectable_difference(seeds, 2.0, comparisons)
    assert difference is not None
    found = stats.ttest_1samp(np.random.default_rng(0).normal(difference, 2.0, (40_000, seeds)), 0, axis=1)
    assert np.mean(found.pvalue < 0.05 / comparisons) == pytest.approx(POWER, abs=0.01)  # 5 standard errors


@pytest.mark.parametrize("comparisons", [1, 4, 14])
def test_the_two_questions_have_one_answer(comparisons: int) -> None:
    for seeds in (2, 3, 4, 8):
        difference = detectable_difference(seeds, 1.7, comparisons)
        assert difference is not None
        assert seeds_needed(difference * 1.000001, 1.7, comparisons) == seeds
        assert seeds_needed(difference * 0.999, 1.7, comparisons) == seeds + 1


def test_limits() -> None:
    assert detectable_difference(1, 1.0) is None
    assert detectable_difference(3, 0.0) == 0  # differences that never vary
    assert seeds_needed(0.0, 1.0) is None
    assert seeds_needed(1.0, 0.0) == 2
    assert seeds_needed(1e-6, 1.0) is None
    assert power(1e9, 1.0, 3) == 1
