"""FID, inception score, precision and recall of generated against real features, computed by torch-fidelity."""

from dataclasses import dataclass
from types import ModuleType

from torch import Tensor

from ear.errors import import_extra
from ear.evaluation.extractors import Features

IS_SPLITS = 10  # the customary ten; fewer images a split bias the score down


@dataclass(frozen=True)
class Metrics:
    fid: float  # Frechet distance of Gaussians fitted to features; lower is better (Heusel et al. 2017)
    inception_score: float  # exp of the mutual information of image and class; higher is better (Salimans et al. 2016)
    inception_score_std: float  # over the splits
    precision: float  # share of generated images inside the real manifold (Kynkaanniemi et al. 2019)
    recall: float  # share of real images inside the generated manifold


def compute_metrics(generated: Features, real: Features, *, neighbours: int = 3) -> Metrics:
    """All metrics of N generated images against M real ones.

    `neighbours` is the k of the balls that make up a manifold.

    Raises:
        UserError: torch-fidelity is not installed.
    """
    isc = _torch_fidelity("metric_isc").isc_features_to_metric(generated.logits, splits=IS_SPLITS)
    # Convention of torch-fidelity since 0.4: generated first, real second.
    prc = _torch_fidelity("metric_prc").prc_features_to_metric(
        generated.features, real.features, prc_neighborhood=neighbours, save_cpu_ram=True, verbose=False
    )
    return Metrics(
        fid=frechet_distance(generated.features, real.features),
        inception_score=isc["inception_score_mean"],
        inception_score_std=isc["inception_score_std"],
        precision=prc["precision"],
        recall=prc["recall"],
    )


def frechet_distance(generated: Tensor, real: Tensor) -> float:
    """|mu_1 - mu_2|^2 + tr(S_1 + S_2 - 2 (S_1 S_2)^(1/2)) of features [N, F] and [M, F], in float64."""
    fid = _torch_fidelity("metric_fid")
    statistics = [fid.fid_features_to_statistics(features.double().cpu()) for features in (generated, real)]
    value: float = fid.fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    return max(value, 0.0)  # rounding makes the distance of a set from itself about -1e-9


def _torch_fidelity(module: str) -> ModuleType:
    return import_extra(f"torch_fidelity.{module}", "evaluation")
