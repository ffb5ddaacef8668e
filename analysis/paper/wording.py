"""A verdict's numbers, tests and next steps in words."""

from math import exp

from analysis.paper.claims import Faster, LowerThan
from analysis.paper.decisions import PairedTest
from analysis.paper.evidence import Side
from analysis.paper.suite import on
from analysis.paper.verdicts import SECONDS, Verdict
from analysis.tables import COLUMNS
from sweeps.spec.confidence import half_width

DECIMALS = dict(COLUMNS.values())


def short_outcome(verdict: Verdict) -> str:
    """Returns the verdict for a table: with the seeds that would decide it, if undecided."""
    return f"{verdict.outcome} ({verdict.seeds_needed} seeds)" if verdict.seeds_needed else verdict.outcome


def ours(verdict: Verdict) -> str:
    """Returns our numbers, one for each side."""
    if not verdict.sides:
        return ""
    if verdict.quantity != SECONDS and not any(side.values for side in verdict.sides):
        return "; ".join(f"{side.label}: {ended(side)}" for side in verdict.sides)
    return f"{verdict.quantity} " + ", ".join(f"{number(verdict, side)} ({side.label})" for side in verdict.sides)


def brief(verdict: Verdict) -> str:
    """Returns our means for a table, in the order of the sides, without labels and intervals."""
    numbers = [number(verdict, side, interval=False) for side in verdict.sides if side.values]
    if not numbers:
        return ours(verdict)
    between = " against " if len(numbers) == 2 else ", "
    return f"{verdict.quantity} {between.join(numbers)}"


def number(verdict: Verdict, side: Side, interval: bool = True) -> str:
    """Returns the mean of a side, with its 95% interval if wanted and known."""
    if side.mean is None:
        return ended(side)
    if verdict.quantity == SECONDS:
        return f"{side.mean:.2g}"
    decimals = DECIMALS[verdict.quantity]
    spread = f" ± {side.half_width:.{decimals}f}" if interval and side.half_width is not None else ""
    return f"{side.mean:.{decimals}f}{spread}"


def ended(side: Side) -> str:
    """Returns how the runs of a side ended: `3 diverged`."""
    return ", ".join(f"{count} {outcome}" for outcome, count in side.ends.items())


def papers(verdict: Verdict) -> str:
    """Returns the paper's numbers as printed."""
    return "; ".join(
        f"{quantity} " + ", ".join(f"{text} ({label})" for label, text in numbers.items())
        for quantity, numbers in verdict.claim.paper.items()
    )


def brief_paper(verdict: Verdict) -> str:
    """Returns the paper's numbers for a table, without labels."""
    between = " against " if isinstance(verdict.claim.statistic, LowerThan | Faster) else ", "
    return "; ".join(
        f"{quantity} {between.join(numbers.values())}" for quantity, numbers in verdict.claim.paper.items()
    )


def to_decide(verdict: Verdict) -> str:
    """States how many seeds would decide an undecided claim."""
    if verdict.outcome != "undecided":
        return ""
    if not verdict.seeds_needed:
        return "at least two seeds, to know how much the difference varies"
    if not verdict.tests:
        return f"{verdict.seeds_needed} seeds or more"
    count = verdict.seeds_needed
    only = "".join(f" --only {sweep}" for sweep in verdict.claim.sweeps)
    more = f" (ear paper run{on(verdict.base)}{only} --seeds {count})" if count.isdecimal() else ""
    return f"{count} seeds, with 80% power, if the differences are as they were seen{more}"


def difference(test: PairedTest, verdict: Verdict) -> str:
    """Returns what a test found: the mean difference in the claim's direction, its interval and p-value."""
    if test.p is None:
        return f"{test.words}: not tested"
    interval = half_width(list(test.differences))
    spread = "" if interval is None else f" ± {interval:.2g}"
    p = "p < 0.0001" if test.p < 1e-4 else f"p = {test.p:.2g}"
    if isinstance(verdict.claim.statistic, Faster):
        return f"{test.words}: {ratio(test)}, {p}"
    return f"{test.words}: {test.mean:+.3g}{spread}, {p}"


def ratio(test: PairedTest) -> str:
    """Returns a ratio of times and its interval, from the test of their logarithms."""
    spread = half_width(list(test.differences))
    if spread is None:
        return f"{exp(test.mean):.3g} times"
    return f"{exp(test.mean):.3g} times ({exp(test.mean - spread):.3g} to {exp(test.mean + spread):.3g})"
