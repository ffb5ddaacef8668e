"""FID, inception score, precision and recall of generated against real features, computed by torch-fidelity."""

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ear.errors import import_extra

IS_SPLITS = 10  # as in the literature; fewer images per split bias the score downwards


@dataclass(frozen=True)
class FeatureStatistics:
    """Mean and covariance of features: the Gaussian that FID compares."""

    mean: NDArray[np.float64]  # [F]
    covariance: NDArray[np.float64]  # [F, F], unbiased

    def __post_init__(self) -> None:
        assert self.covariance.shape == (len(self.mean), len(self.mean))


class StatisticsAccumulator:
    """Computes mean and covariance of features batch by batch, in float64, relative to the first batch's mean."""

    def __init__(self) -> None:
        self.count = 0
        self._origin = torch.empty(0)
        self._sum = torch.empty(0)
        self._products = torch.empty(0)

    def add(self, features: Tensor) -> None:
        """Add a batch of features [N, F]."""
        features = features.double().cpu()
        if self.count == 0:
            self._origin = features.mean(dim=0)
            self._sum = torch.zeros_like(self._origin)
            self._products = torch.zeros(2 * self._origin.shape, dtype=torch.float64)
        centred = features - self._origin
        self.count += len(features)
        self._sum += centred.sum(dim=0)
        self._products += centred.T @ centred

    def statistics(self) -> FeatureStatistics:
        """Mean and covariance of all features added so far.

        The covariance is (sum x x^T - n m m^T) / (n - 1), with x and m relative to the first batch's mean.
        """
        mean = self._sum / self.count
        covariance = (self._products - self.count * torch.outer(mean, mean)) / (self.count - 1)
        return FeatureStatistics((mean + self._origin).numpy(), covariance.numpy())


def feature_statistics(features: Tensor) -> FeatureStatistics:
    """Mean and covariance of features [N, F]."""
    accumulator = StatisticsAccumulator()
    accumulator.add(features)
    return accumulator.statistics()


def frechet_distance(generated: FeatureStatistics, real: FeatureStatistics) -> float:
    """The FID (Heusel et al. 2017): |mu_1 - mu_2|^2 + tr(S_1 + S_2 - 2 (S_1 S_2)^(1/2)); lower is better."""
    statistics = [{"mu": each.mean, "sigma": each.covariance} for each in (generated, real)]
    metric = _torch_fidelity("metric_fid").fid_statistics_to_metric(*statistics, verbose=False)
    # By rounding, the distance of a set from itself can be about -1e-9.
    return max(float(metric["frechet_inception_distance"]), 0.0)


def inception_score(logits: Tensor) -> dict[str, float]:
    """The inception score (Salimans et al. 2016) of logits [N, K]: mean and standard deviation over splits.

    It is exp of the mutual information of image and class; higher is better.
    """
    score = _torch_fidelity("metric_isc").isc_features_to_metric(logits, splits=IS_SPLITS)
    return {"is": score["inception_score_mean"], "is_std": score["inception_score_std"]}


def precision_recall(generated: Tensor, real: Tensor, neighbours: int) -> dict[str, float]:
    """Precision and recall (Kynkaanniemi et al. 2019) of features [N, F]; higher is better.

    Precision is the fraction of generated images inside the manifold of real ones, recall the reverse. A manifold is
    the union of balls that reach to the k-th nearest neighbour, with k = `neighbours`.
    """
    # Convention of torch-fidelity since 0.4: generated first, real second.
    metric: dict[str, Any] = _torch_fidelity("metric_prc").prc_features_to_metric(
        generated, real, prc_neighborhood=neighbours, save_cpu_ram=True, verbose=False
    )
    return {"precision": metric["precision"], "recall": metric["recall"]}


def frechet_bias(generated: Tensor, real: FeatureStatistics) -> float:
    """Estimate how much higher the FID of these N images is than that of infinitely many.

    The bias falls as 1/N (Chong & Forsyth 2020), so going from N/2 images to N reduces it by what remains at N.
    """
    halves = generated[::2], generated[1::2]
    of_halves = sum(frechet_distance(feature_statistics(half), real) for half in halves) / 2
    return of_halves - frechet_distance(feature_statistics(generated), real)


def _torch_fidelity(module: str) -> ModuleType:
    return import_extra(f"torch_fidelity.{module}", "evaluation")
