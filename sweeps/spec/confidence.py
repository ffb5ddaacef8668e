"""Confidence intervals of means over seeds."""

import math
from collections.abc import Sequence
from statistics import stdev

CONFIDENCE = 0.95


def half_width(values: Sequence[float]) -> float | None:
    """Returns half of Student's 95% confidence interval of the mean; None for fewer than two values, NaN if one is not
    finite."""
    from scipy import stats  # imported here: it takes a second, which `ear sweep plan` and `status` do not need

    count = len(values)
    if count < 2:
        return None
    if not all(map(math.isfinite, values)):
        return math.nan  # `stdev` would raise
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1)) * stdev(values) / math.sqrt(count)
