"""What configurations are ranked by."""

from typing import Literal, Self

from pydantic import model_validator

from ear.config.schema import Section

MetricName = Literal["fid", "is", "precision", "recall", "fid_null", "is_null", "precision_null", "recall_null"]
"""As evaluations name them; `_null` is measured on samples without a class label."""


def better(metric: str) -> Literal["min", "max"]:
    """Whether less or more of a metric is better."""
    return "max" if metric.removesuffix("_null") in ("is", "precision", "recall") else "min"


def written(metric: str, value: float) -> str:
    """For people: precision and recall, between 0 and 1, with a digit more than the others."""
    digits = 3 if metric.removesuffix("_null") in ("precision", "recall") else 2
    return f"{value:.{digits}f}"


class MetricConfig(Section):
    name: MetricName = "fid"
    """What configurations are ranked by; `_null` is measured on samples without a class label."""
    mode: Literal["min", "max"] = "min"

    @model_validator(mode="after")
    def _known_direction(self) -> Self:
        best = better(self.name)
        if self.mode != best:
            raise ValueError(
                f"{self.name} is better when {'higher' if best == 'max' else 'lower'}: mode must be {best}"
            )
        return self
