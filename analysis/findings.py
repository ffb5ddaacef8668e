"""States in words what of the paper's ablation reproduces, what does not, and what the numbers leave open."""

import numpy as np
import pandas as pd

from analysis.comparison import Comparison, by_seed, compare, neighbours, not_worse
from analysis.notation import symbol
from analysis.paper import PaperAblation
from analysis.reproduction import reproduction
from analysis.results import METRICS
from analysis.statistics import summarise
from analysis.wording import listed, share
from sweeps.spec.naming import shown

FEW_SEEDS = 3  # up to this number, a t-test with one or two degrees of freedom has little power


def findings(frame: pd.DataFrame, axes: list[str], paper: PaperAblation | None) -> str:
    """Returns the findings that follow from the runs' numbers; `paper` is None for more than one axis."""
    summary = summarise(frame, axes, METRICS)
    differences = resolution(summary.dropna(subset=["fid"]), by_seed(frame, axes, "fid"), axes)
    if paper is None:
        return f"The paper's summary gives no numbers for this ablation. {differences}"
    return " ".join([*reproduction(frame, summary, paper), differences])


def resolution(finished: pd.DataFrame, fid: pd.DataFrame, axes: list[str]) -> str:
    """States which neighbouring configurations (one step of one axis apart) differ significantly in FID.

    `fid` comes from `by_seed`.
    """
    if len(fid) == 1:
        return (
            "With one seed there is no interval, so FID tells no configurations apart: "
            "list at least three seeds to rank them."
        )
    pairs = list(neighbours(finished, axes))
    if not pairs:
        return "No two neighbouring configurations have finished, so there is no difference to judge."
    compared = compare(pairs, fid)
    if len(compared.unknown) == len(pairs):
        return "No two neighbouring configurations share two finished seeds, so none can be told apart."
    sentences = [told_apart(compared, axes)]
    if compared.unknown:
        which = listed(compared.unknown, axes) or f"{len(compared.unknown)} more pairs"
        sentences.append(f"Nothing can be said about {which}: too few finished seeds in common.")
    if compared.close:
        if len(fid) <= FEW_SEEDS:
            sentences.append("With so few seeds, only a difference that is nearly equal in every seed is significant.")
        if len(finished) > 2:
            sentences.append(best(finished, fid, axes))
    return " ".join(sentences)


def told_apart(compared: Comparison, axes: list[str]) -> str:
    """States how many of the comparable pairs differ, and which do not."""
    apart, close = compared.apart, compared.close
    begin = f"Paired by seed over {compared.seeds} seeds, FID"
    if len(apart) + len(close) == 1:
        verb = "tells" if apart else "can't tell"
        return f"{begin} {verb} {listed(apart + close, axes)} apart (95% confidence)."
    confidence = "95% confidence for all together"
    if compared.uncorrected > len(apart):
        confidence += f"; taken one by one, {compared.uncorrected}"
    count = share(len(apart), len(apart) + len(close))
    sentence = f"{begin} tells {count} pairs of neighbours apart ({confidence})."
    if apart and close and (names := listed(close, axes)):
        sentence += f" It can't tell apart {names}."
    return sentence


def best(finished: pd.DataFrame, fid: pd.DataFrame, axes: list[str]) -> str:
    """States the configuration with the lowest mean FID and how many others may be as good.

    `fid` comes from `by_seed`.
    """
    rows = [row for _, row in finished.astype(object).iterrows()]
    winner = min(rows, key=lambda row: float(row["fid"]))
    name = ", ".join(f"{symbol(axis, axes)} {shown(winner[axis])}" for axis in axes)
    if np.isnan(winner["fid_ci"]):
        return (
            f"The lowest FID is {winner['fid']:.2f}, at {name}, where a single seed finished: "
            "nothing can be told apart from it."
        )
    others = [row for row in rows if row is not winner]
    kept = len(not_worse(winner, others, fid))
    sentence = f"The lowest mean FID is {winner['fid']:.2f} ± {winner['fid_ci']:.2f}, at {name}; "
    if not kept:
        return (
            f"{sentence}{share(len(others), len(others))} other configurations are told apart from it (95% confidence)."
        )
    return (
        f"{sentence}{share(kept, len(others))} other configurations can't be told apart from it "
        f"(95% confidence that the truly best is among these {kept + 1})."
    )
