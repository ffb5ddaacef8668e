"""In words: what of the paper's ablation reproduces, what does not, and what the numbers can't tell."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pandas as pd
from scipy import stats

from analysis.paper import PaperAblation

COLLAPSE = 5.0  # a configuration's FID over the best one's from which we speak of a collapse


def findings(summary: pd.DataFrame, axes: list[str], paper: PaperAblation | None) -> str:
    """Sentences that follow from the numbers alone. A paper's ablation is given for a single axis only."""
    seeds = int(summary["runs"].min())
    finished = summary.dropna(subset=["fid"])
    told_apart = resolution(finished, axes, seeds)
    if paper is None:
        return f"The paper's summary gives no numbers for this ablation. {told_apart}"
    axis = paper.axis
    both = finished[finished[axis].isin(paper.values)]
    if both.empty:
        return f"The sweep has none of the paper's values, so nothing can be compared. {told_apart}"
    theirs = pd.Series([paper.value("fid", value) for value in both[axis]], index=both.index, dtype=float)
    sentences = [
        *order(both, axis, theirs),
        *collapse(both, axis, theirs),
        *inception_score(both, axis, theirs, paper),
        told_apart,
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


def resolution(finished: pd.DataFrame, axes: list[str], seeds: int) -> str:
    """Which neighbours, configurations one step of one axis apart, the seeds can tell apart."""
    if seeds < 2:
        return (
            "With one seed there is no interval: read only differences of the collapse's size; "
            "three seeds or more are needed to rank the others."
        )
    pairs = []
    for one, other in neighbours(finished, axes):
        gap = abs(one["fid"] - other["fid"])
        # Without an interval (a single seed finished) nothing is told apart: a comparison with NaN is false.
        if not gap >= np.hypot(float(one["fid_ci"]), float(other["fid_ci"])):
            pairs.append(" and ".join(", ".join(f"{row[axis]}" for axis in axes) for row in (one, other)))
    if not pairs:
        return f"All neighbours differ by more than their 95% intervals over {seeds} seeds."
    return f"Over {seeds} seeds the FID of {'; of '.join(pairs)} can't be told apart (95% intervals)."


def neighbours(finished: pd.DataFrame, axes: list[str]) -> Iterator[tuple[pd.Series, pd.Series]]:
    """Pairs of rows that differ in one axis, by one of its steps."""
    for axis in axes:
        others = [each for each in axes if each != axis]
        groups = [group for _, group in finished.groupby(others)] if others else [finished]
        for group in groups:
            rows = [row for _, row in group.sort_values(axis).iterrows()]
            yield from pairwise(rows)
