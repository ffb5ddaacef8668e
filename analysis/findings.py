"""In words: what of the paper's ablation reproduces, what does not, and what the numbers can't tell."""

import math

import pandas as pd
from scipy import stats

from analysis.paper import PaperAblation

COLLAPSE = 5.0  # a configuration's FID over the best one's from which we speak of a collapse


def findings(summary: pd.DataFrame, axis: str, paper: PaperAblation | None) -> str:
    """Sentences that follow from the numbers alone."""
    seeds = int(summary["runs"].min())
    finished = summary.dropna(subset=["fid"])
    if paper is None:
        return f"The paper's summary gives no numbers for this ablation. {resolution(finished, axis, seeds)}"
    both = finished[finished[axis].isin(paper.values)]
    theirs = pd.Series([paper.value("fid", value) for value in both[axis]], index=both.index, dtype=float)
    sentences = [
        *order(both, axis, theirs),
        *collapse(both, axis, theirs),
        *inception_score(both, axis, theirs, paper),
        resolution(both, axis, seeds),
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


def resolution(finished: pd.DataFrame, axis: str, seeds: int) -> str:
    """Which neighbours the seeds can tell apart."""
    if seeds < 2:
        return (
            "With one seed there is no interval: read only differences of the collapse's size; "
            "three seeds or more are needed to rank the others."
        )
    pairs = []
    for (_, one), (_, other) in zip(finished.iloc[:-1].iterrows(), finished.iloc[1:].iterrows(), strict=True):
        gap = abs(one["fid"] - other["fid"])
        if gap < math.hypot(one["fid_ci"], other["fid_ci"]):
            pairs.append(f"{one[axis]} and {other[axis]}")
    if not pairs:
        return f"All neighbours differ by more than their 95% intervals over {seeds} seeds."
    return f"Over {seeds} seeds the FID of {'; of '.join(pairs)} can't be told apart (95% intervals)."
