"""In words: what of the paper's ablation reproduces, what does not, and what the numbers can't tell."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from analysis.comparison import Comparison, Pair, by_seed, compare, neighbours, not_worse
from analysis.notation import symbol
from analysis.paper import PaperAblation
from analysis.results import METRICS
from analysis.statistics import summarise
from sweeps.runs import shown

MOST_LISTED = 6  # pairs of configurations that a sentence names
FEW_SEEDS = 3  # up to which a t-test, with one or two degrees of freedom, finds little
COLLAPSE = 5.0  # a configuration's FID over the best one's from which we speak of a collapse


def findings(frame: pd.DataFrame, axes: list[str], paper: PaperAblation | None) -> str:
    """Sentences that follow from the runs' numbers alone. A paper's ablation is given for a single axis only."""
    finished = summarise(frame, axes, METRICS).dropna(subset=["fid"])
    differences = resolution(finished, by_seed(frame, axes, "fid"), axes)
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


def resolution(finished: pd.DataFrame, fid: pd.DataFrame, axes: list[str]) -> str:
    """Which neighbours, configurations one step of one axis apart, the seeds can tell apart.

    `fid` is of `by_seed`.
    """
    if len(fid) == 1:
        return (
            "With one seed there is no interval: read only differences of the collapse's size; "
            "three seeds or more are needed to rank the others."
        )
    pairs = list(neighbours(finished, axes))
    if not pairs:
        return "No two neighbouring configurations have finished, so there is no difference to judge."
    compared = compare(pairs, fid)
    if len(compared.unknown) == len(pairs):
        return "No two neighbouring configurations have two finished seeds in common, so none can be told apart."
    sentences = [told_apart(compared, axes)]
    if compared.unknown:
        which = listed(compared.unknown, axes) or f"{len(compared.unknown)} more pairs"
        sentences.append(f"Nothing can be said of {which}: too few finished seeds in common.")
    if compared.close:
        if len(fid) <= FEW_SEEDS:
            sentences.append("With so few seeds only what differs by nearly the same in each is told apart.")
        if len(finished) > 2:
            sentences.append(best(finished, fid, axes))
    return " ".join(sentences)


def told_apart(compared: Comparison, axes: list[str]) -> str:
    """How many of the pairs that can be compared differ, and which do not."""
    apart, close = compared.apart, compared.close
    begin = f"Paired by seed over {compared.seeds} seeds, FID"
    if len(apart) + len(close) == 1:
        verb = "tells" if apart else "can't tell"
        return f"{begin} {verb} {listed(apart + close, axes)} apart (95% confidence)."
    confidence = "95% confidence for all together"
    if compared.alone > len(apart):
        confidence += f"; taken one by one, {compared.alone}"
    count = share(len(apart), len(apart) + len(close))
    sentence = f"{begin} tells {count} pairs of neighbours apart ({confidence})."
    if apart and close and (names := listed(close, axes)):
        sentence += f" It can't tell apart {names}."
    return sentence


def best(finished: pd.DataFrame, fid: pd.DataFrame, axes: list[str]) -> str:
    """The configuration with the lowest FID, and how many others may be as good; `fid` is of `by_seed`."""
    rows = [row for _, row in finished.astype(object).iterrows()]
    winner = min(rows, key=lambda row: float(row["fid"]))
    name = ", ".join(f"{symbol(axis)} {shown(winner[axis])}" for axis in axes)
    if np.isnan(winner["fid_ci"]):
        return (
            f"The best FID is {winner['fid']:.2f}, at {name}, where a single seed finished: "
            "nothing can be told apart from it."
        )
    others = [row for row in rows if row is not winner]
    kept = len(not_worse(winner, others, fid))
    sentence = f"The best FID is {winner['fid']:.2f} ± {winner['fid_ci']:.2f}, at {name}; "
    if not kept:
        return (
            f"{sentence}{share(len(others), len(others))} other configurations are told apart from it (95% confidence)."
        )
    return (
        f"{sentence}{share(kept, len(others))} other configurations can't be told apart from it "
        f"(95% confidence that the truly best is among these {kept + 1})."
    )


def share(part: int, whole: int) -> str:
    """`2 of 5`, `all 5` or `none of 5`; of two `both`."""
    everything = "both" if whole == 2 else f"all {whole}"
    return everything if part == whole else f"{part or 'none'} of {whole}"


def listed(pairs: Sequence[Pair], axes: list[str]) -> str:
    """The pairs' values, `1.0 and 1.25; 1.25 and 1.5`; nothing where they are too many to read."""
    if len(pairs) > MOST_LISTED:
        return ""
    return "; ".join(" and ".join(", ".join(shown(row[axis]) for axis in axes) for row in pair) for pair in pairs)
