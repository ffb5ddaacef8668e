"""In words: what of the paper's ablation reproduces, what does not, and what the numbers can't tell."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pandas as pd
from scipy import stats

from analysis.notation import symbol
from analysis.paper import PaperAblation
from analysis.statistics import seed_range
from sweeps.runs import shown

MOST_LISTED = 6  # pairs of configurations that a sentence names
COLLAPSE = 5.0  # a configuration's FID over the best one's from which we speak of a collapse


def findings(summary: pd.DataFrame, axes: list[str], paper: PaperAblation | None) -> str:
    """Sentences that follow from the numbers alone. A paper's ablation is given for a single axis only."""
    finished = summary.dropna(subset=["fid"])
    differences = resolution(finished, axes, seed_range(summary))
    if paper is None:
        return f"The paper's summary gives no numbers for this ablation. {differences}"
    axis = paper.axis
    both = finished[finished[axis].isin(paper.values)]
    if both.empty:
        return f"The sweep has none of the paper's values, so nothing can be compared. {differences}"
    theirs = pd.Series([paper.value("fid", value) for value in both[axis]], index=both.index, dtype=float)
    sentences = [
        *order(both, axis, theirs),
        *collapse(both, axis, theirs),
        *inception_score(both, axis, theirs, paper),
        differences,
    ]
    return " ".join(sentences)


def order(both: pd.DataFrame, axis: str, theirs: pd.Series) -> list[str]:
    """Whether configurations rank by FID as the paper's do."""
    if len(both) < 3:
        return []
    correlation = stats.spearmanr(both["fid"], theirs).statistic
    if correlation > 1 - 1e-9:
        return ["The order by FID reproduces."]
    ours = ", ".join(f"{value}" for value in both.sort_values("fid")[axis])
    paper = ", ".join(f"{value}" for value in both.loc[theirs.sort_values().index, axis])
    return [f"The order by FID is {ours} here and {paper} in the paper (rank correlation {correlation:.2f})."]


def collapse(both: pd.DataFrame, axis: str, theirs: pd.Series) -> list[str]:
    """Whether what collapses in the paper collapses here, and by how much."""
    sentences = []
    for index in theirs.index[theirs > COLLAPSE * theirs.min()]:
        row = both.loc[index]
        rest = both.drop(index)
        factor, paper_factor = row["fid"] / both["fid"].min(), theirs[index] / theirs.min()
        verdict = "reproduces" if row["recall"] < 0.1 * rest["recall"].max() else "does not reproduce"
        sentences.append(
            f"The collapse at {row[axis]} {verdict}: recall {row['recall']:.3f} against {rest['recall'].min():.2f} or "
            f"more elsewhere, FID {factor:.1f} times the best (paper: {paper_factor:.0f} times), "
            f"{row['fid_null'] / both['fid_null'].min():.1f} times without class labels."
        )
    return sentences


def inception_score(both: pd.DataFrame, axis: str, theirs: pd.Series, paper: PaperAblation) -> list[str]:
    """Whether IS shows the paper's collapse too."""
    worst = theirs.idxmax()
    row, rest = both.loc[worst], both.drop(worst)
    paper_rest = [value for value in (paper.value("is", each) for each in rest[axis]) if value is not None]
    paper_worst = paper.value("is", row[axis])
    if not paper_rest or paper_worst is None or paper_worst > min(paper_rest) / 2:
        return []
    unlabelled = f"without a label it is {row['is_null']:.2f} against {rest['is_null'].min():.2f} or more"
    if row["is"] < rest["is"].min() / 2:
        return [f"IS collapses there as in the paper ({row['is']:.2f}); {unlabelled}."]
    return [
        f"IS with class labels does not fall there as the paper's does ({row['is']:.2f} against "
        f"{rest['is'].max():.2f} at most elsewhere), since the mean of a class is still recognised as that class; "
        f"{unlabelled}."
    ]


def resolution(finished: pd.DataFrame, axes: list[str], seeds: str) -> str:
    """Which neighbours, configurations one step of one axis apart, the seeds can tell apart."""
    if seeds == "1":
        return (
            "With one seed there is no interval: read only differences of the collapse's size; "
            "three seeds or more are needed to rank the others."
        )
    pairs = list(neighbours(finished, axes))
    close = [pair for pair in pairs if not told_apart(*pair)]
    if not close:
        return f"All neighbours differ by more than their 95% intervals over {seeds} seeds."
    if len(close) > MOST_LISTED:
        return (
            f"Over {seeds} seeds the FID of {share(len(close), len(pairs))} pairs of neighbours can't be told apart "
            f"by their 95% intervals. {best(finished, axes)}"
        )
    named = [" and ".join(", ".join(f"{row[axis]}" for axis in axes) for row in pair) for pair in close]
    return f"Over {seeds} seeds the FID of {'; of '.join(named)} can't be told apart (95% intervals)."


def told_apart(one: pd.Series, other: pd.Series) -> bool:
    """Whether two configurations' FIDs differ by more than both intervals together.

    Without an interval (a single seed finished) nothing is told apart: a comparison with NaN is false.
    """
    return bool(abs(one["fid"] - other["fid"]) >= np.hypot(one["fid_ci"], other["fid_ci"]))


def best(finished: pd.DataFrame, axes: list[str]) -> str:
    """The configuration with the lowest FID, and how many others its interval covers."""
    winner = finished.astype(object).loc[finished["fid"].idxmin()]
    name = ", ".join(f"{symbol(axis)} {shown(winner[axis])}" for axis in axes)
    fid, half_width = winner["fid"], winner["fid_ci"]
    if np.isnan(half_width):
        return f"The best FID is {fid:.2f}, at {name}, where a single seed finished: it has no interval."
    within = int((finished["fid"] <= fid + half_width).sum()) - 1
    others = f"the mean of {share(within, len(finished) - 1)} other configurations"
    return f"The best FID is {fid:.2f} ± {half_width:.2f}, at {name}; {others} is within this interval."


def share(part: int, whole: int) -> str:
    """`2 of 5`, or `all 5`."""
    return f"all {whole}" if part == whole else f"{part} of {whole}"


def neighbours(finished: pd.DataFrame, axes: list[str]) -> Iterator[tuple[pd.Series, pd.Series]]:
    """Pairs of rows that differ in one axis, by one of its steps."""
    for axis in axes:
        others = [each for each in axes if each != axis]
        groups = [group for _, group in finished.groupby(others)] if others else [finished]
        for group in groups:
            # As objects, for a row of numbers alone would turn the whole ones into fractions.
            rows = [row for _, row in group.sort_values(axis).astype(object).iterrows()]
            yield from pairwise(rows)
