"""The metrics that rank configurations."""

from typing import Literal, Self

from pydantic import model_validator

from ear.config.schema import Section

MetricName = Literal["fid", "is", "precision", "recall", "fid_null", "is_null", "precision_null", "recall_null"]
"""The metrics' names in evaluations; `_null` is measured on samples without a class label."""


def better(metric: str) -> Literal["min", "max"]:
    """Returns the metric's direction: whether lower ("min") or higher ("max") is better."""
    return "max" if metric.removesuffix("_null") in ("is", "precision", "recall") else "min"


def written(metric: str, value: float) -> str:
    """Formats a metric's value for people: precision and recall with 3 decimals, others with 2."""
    digits = 3 if metric.removesuffix("_null") in ("precision", "recall") else 2
    return f"{value:.{digits}f}"


class MetricConfig(Section):
    """The metric that ranks configurations, and its direction."""

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
