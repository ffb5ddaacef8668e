"""Decides claims from numbers: paired tests, corrected for their number, and qualitative changes seed by seed.

A claim *reproduces* or is *contradicted* only if tests of at least two seeds say so; otherwise it is *undecided*. Each
claim's own tests are corrected together (Holm), not those of all claims: a reader asks each claim by itself, one
claim's verdict does not change when another sweep is run, and it agrees with the findings of that sweep's own report.
So each claim has a chance of at most 5% to be decided where nothing differs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from statistics import fmean, stdev

from analysis.comparison import holm
from analysis.paper.claims import Outcome
from analysis.statistics import p_value
from sweeps.spec.power import seeds_needed

Labelled = tuple[str, dict[int, float]]  # a side's label and its values by seed

MOST_SEEDS = 100  # that an undecided claim may ask for


@dataclass(frozen=True)
class PairedTest:
    """Student's paired t-test, two-sided, that a mean difference is 0."""

    words: str  # what the claim says: `FID at α 1.25 above α 1.0`
    differences: tuple[float, ...]  # one for each seed that both sides finished; positive as the claim says

    @cached_property
    def p(self) -> float | None:
        """The p-value; None for fewer than two seeds."""
        return p_value(self.differences)

    @property
    def mean(self) -> float:
        """The mean difference; NaN without seeds."""
        return fmean(self.differences) if self.differences else math.nan

    def needed(self, tests: int) -> int | None:
        """Returns the seeds at which a difference as observed is significant among `tests` tests with 80% power.

        None if that are more than `MOST_SEEDS`, or if fewer than two seeds say how much the difference varies.
        """
        if len(self.differences) < 2 or self.mean == 0:
            return None
        seeds = seeds_needed(abs(self.mean), stdev(self.differences), tests)
        if seeds is None or seeds > MOST_SEEDS:
            return None
        return max(seeds, len(self.differences) + 1)  # these seeds did not find it


@dataclass(frozen=True)
class Decision:
    """What the numbers say of a claim, and why."""

    outcome: Outcome
    test: str  # which tests found what, as a sentence
    seeds_needed: str = ""  # of an undecided claim: `8`, `more than 100`; empty if it can't be said
    tests: tuple[PairedTest, ...] = ()


def decide(tests: Sequence[PairedTest], what: str = "paired t-test") -> Decision:
    """Decides a claim that says of each test's difference that it is positive.

    Null hypothesis: all mean differences are 0. It reproduces if every test finds its difference, in the claim's
    direction, and is contradicted if one finds the opposite. Holm's correction bounds the probability of either under
    the null hypothesis by 5% together.
    """
    known = [test for test in tests if test.p is not None]
    found = dict(zip(known, holm([test.p for test in known if test.p is not None]), strict=True))
    outcome = outcome_of([found.get(test, False) for test in tests], [test.mean for test in tests])
    agree = sum(found[test] and test.mean > 0 for test in known)
    against = sum(found[test] and test.mean < 0 for test in known)
    return Decision(
        outcome,
        describe(tests, what, agree, against),
        needed(tests, [test for test in tests if not found.get(test, False)]) if outcome == "undecided" else "",
        tuple(tests),
    )


def outcome_of(found: Sequence[bool], means: Sequence[float]) -> Outcome:
    """Returns the outcome of a claim's tests: whether each is significant, and the mean difference that it has."""
    if any(significant and mean < 0 for significant, mean in zip(found, means, strict=True)):
        return "contradicted"
    return "reproduces" if found and all(found) else "undecided"


def describe(tests: Sequence[PairedTest], what: str, agree: int, against: int) -> str:
    """States what the tests found."""
    counts = sorted({len(test.differences) for test in tests})
    if counts[-1] < 2:
        return f"no {what}: it takes two common seeds, and there is {'one' if counts[-1] else 'none'}"
    seeds = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    if len(tests) == 1:
        only = tests[0]
        low = "p < 0.0001" if only.p is not None and only.p < 1e-4 else f"p = {only.p:.2g}"
        return f"{what} over {seeds} seeds: {low}"
    return (
        f"{len(tests)} {what}s over {seeds} seeds, with Holm's correction: {agree} significant as claimed, "
        f"{against} the opposite way"
    )


def needed(tests: Sequence[PairedTest], open_tests: Sequence[PairedTest]) -> str:
    """States how many seeds would decide the open tests at 80% power, if the differences are as observed."""
    if any(len(test.differences) < 2 for test in open_tests):
        return ""
    seeds = [test.needed(len(tests)) for test in open_tests]
    known = [count for count in seeds if count is not None]
    return f"more than {MOST_SEEDS}" if len(known) < len(seeds) else str(max(known))


def decide_by_seed(held: Sequence[bool], what: str) -> Decision:
    """Decides a qualitative claim from whether each seed shows it: all of at least two, none, or some only.

    Null hypothesis: the change does not occur. No test is made: the bounds are so far from what luck does that a seed
    which shows the change without a cause is not expected at all.
    """
    test = f"{what} in {sum(held)} of {len(held)} seeds"
    if len(held) < 2:
        return Decision("undecided", test, "2")
    if all(held):
        return Decision("reproduces", test)
    return Decision("undecided" if any(held) else "contradicted", test)


def ordered(arms: Sequence[Labelled], rises: bool, metric: str) -> list[PairedTest]:
    """Returns the tests that a metric rises (or falls) at each step along the arms, (label, value by seed) each.

    Null hypothesis of each: the two neighbours have the same mean.
    """
    word = "above" if rises else "below"
    return [
        PairedTest(
            f"{metric} at {label} {word} {before}", subtract(values, earlier) if rises else subtract(earlier, values)
        )
        for (before, earlier), (label, values) in pairwise(arms)
    ]


def best_at(best: Labelled, others: Sequence[Labelled], higher: bool, metric: str) -> list[PairedTest]:
    """Returns the tests that a metric is better at one arm than at each other.

    Null hypothesis of each: the two arms have the same mean.
    """
    label, values = best
    word = "above" if higher else "below"
    return [
        PairedTest(
            f"{metric} at {label} {word} {other}", subtract(values, theirs) if higher else subtract(theirs, values)
        )
        for other, theirs in others
    ]


def lower_than(one: Labelled, other: Labelled, metric: str) -> list[PairedTest]:
    """Returns the test that a metric is lower at one arm than at the other.

    Null hypothesis: both have the same mean.
    """
    return [PairedTest(f"{metric} with {one[0]} below {other[0]}", subtract(other[1], one[1]))]


def faster(one: Labelled, other: Labelled) -> list[PairedTest]:
    """Returns the test that one arm takes fewer seconds an image.

    Null hypothesis: the logarithms of the seconds have the same mean. Logarithms, because a busy machine multiplies
    times, and because the ratio is what is claimed.
    """
    logs = [{seed: math.log(seconds) for seed, seconds in arm[1].items()} for arm in (one, other)]
    return [PairedTest(f"{one[0]} faster than {other[0]}", subtract(logs[1], logs[0]))]


def subtract(one: dict[int, float], other: dict[int, float]) -> tuple[float, ...]:
    """Returns the differences of the seeds that both have, by seed."""
    return tuple(one[seed] - other[seed] for seed in sorted(one.keys() & other.keys()))
