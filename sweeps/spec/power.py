"""The statistical power of a sweep's seeds: which difference between two configurations they can tell apart."""

import math
from collections.abc import Callable

from sweeps.spec.confidence import CONFIDENCE

POWER = 0.8  # probability of finding a difference that is there
MOST_SEEDS = 10_000
CERTAIN = 1e9  # a noncentrality at which the power is 1; scipy has NaN from 1e15 on


def power(difference: float, sd: float, seeds: int, comparisons: int = 1) -> float:
    """Returns the probability that Student's paired t-test, two-sided at 5%, finds a mean difference.

    With d = difference / sd * sqrt(seeds) and T noncentral t with seeds - 1 degrees of freedom: P(|T(d)| > t), where t
    is the quantile of the central t at 1 - 5% / comparisons / 2 (Bonferroni).

    Args:
        difference: the true mean difference.
        sd: the standard deviation of the differences from seed to seed.
        seeds: common seeds, at least 2.
        comparisons: tests that are corrected together.
    """
    from scipy import stats  # imported here: it takes a second

    freedom, noncentrality = seeds - 1, min(abs(difference) / sd * math.sqrt(seeds), CERTAIN)
    critical = stats.t.isf((1 - CONFIDENCE) / comparisons / 2, freedom)
    # P(T(d) < -t) = P(T(-d) > t), of which scipy (1.17) has the second only: the first is NaN for many d.
    return float(stats.nct.sf(critical, freedom, noncentrality) + stats.nct.sf(critical, freedom, -noncentrality))


def detectable_difference(seeds: int, sd: float, comparisons: int = 1) -> float | None:
    """Returns the smallest difference that these seeds find with 80% power; None for fewer than two seeds."""
    if seeds < 2:
        return None
    if sd == 0:
        return 0.0
    high = sd
    while power(high, sd, seeds, comparisons) < POWER:
        high *= 2
    low = 0.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if power(middle, sd, seeds, comparisons) >= POWER else (middle, high)
    return high


def seeds_needed(difference: float, sd: float, comparisons: int = 1) -> int | None:
    """Returns the seeds that find a difference with 80% power; None if that are more than `MOST_SEEDS`, or for 0."""
    if difference == 0:
        return None
    if sd == 0:
        return 2
    return smallest(lambda seeds: power(difference, sd, seeds, comparisons) >= POWER, 2, MOST_SEEDS)


def smallest(holds: Callable[[int], bool], low: int, high: int) -> int | None:
    """Returns the smallest number from `low` to `high` for which a condition holds that holds from there on."""
    if not holds(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low
