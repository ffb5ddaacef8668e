"""The variance of a metric taken apart: retraining against sampling the images anew."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

EVALUATION_SEED = "evaluation.seed"


@dataclass(frozen=True)
class Components:
    """Standard deviations of a metric, from a one-way analysis of variance with random effects."""

    retraining: float  # between trainings that differ in the seed only; 0 if sampling explains all of it
    resampling: float  # between evaluations of one training that differ in the seed only
    trainings: int
    evaluations: int


def components(frame: pd.DataFrame, axes: Sequence[str], metric: str) -> Components | None:
    """Takes the variance of a metric apart; None without trainings that were evaluated with several seeds.

    `evaluation.seed` must be among the axes. Within a configuration, y_ij = mean + a_i + e_ij for evaluation j of
    training i. With MS the mean squares between and within trainings and n the evaluations of a training,

        Var(e) = MS_within,  Var(a) = max(0, (MS_between - MS_within) / n_0),  n_0 = (N - sum n_i^2 / N) / (k - 1)

    (Searle, Casella and McCulloch 1992, Variance Components, section 3.6), pooled over configurations by degrees of
    freedom.
    """
    others = [axis for axis in axes if axis != EVALUATION_SEED]
    finished = frame[frame["outcome"] == "finished"].dropna(subset=[metric])
    groups = [group for _, group in finished.groupby(others, dropna=False)] if others else [finished]
    within, between = [0.0, 0], [0.0, 0.0, 0]  # sums of squares and degrees of freedom; and the sum of n_0
    used = np.zeros(2, dtype=int)  # trainings, evaluations
    for group in groups:
        trainings = [values.to_numpy() for _, values in group.groupby("seed")[metric]]
        counts = np.array([len(values) for values in trainings])
        total, count = counts.sum(), len(trainings)
        if count < 2 or total <= count:
            continue
        mean = np.concatenate(trainings).mean()
        within[0] += sum(((values - values.mean()) ** 2).sum() for values in trainings)
        within[1] += total - count
        between[0] += sum(len(values) * (values.mean() - mean) ** 2 for values in trainings)
        between[1] += total - (counts**2).sum() / total  # n_0 (k - 1)
        between[2] += count - 1
        used += np.array([count, total])
    if not within[1]:
        return None
    mean_within, mean_between = within[0] / within[1], between[0] / between[2]
    weight = between[1] / between[2]
    retraining = max(0.0, (mean_between - mean_within) / weight)
    return Components(float(np.sqrt(retraining)), float(np.sqrt(mean_within)), int(used[0]), int(used[1]))


def variance_words(frame: pd.DataFrame, axes: Sequence[str]) -> str:
    """States the components of FID's variance; empty where the runs can't tell."""
    if EVALUATION_SEED not in axes or (found := components(frame, axes, "fid")) is None:
        return ""
    return (
        f"FID varies by {found.retraining:.2f} (standard deviation) from training to training and by "
        f"{found.resampling:.2f} from one sample of images to another ({found.evaluations} evaluations of "
        f"{found.trainings} trainings)."
    )
