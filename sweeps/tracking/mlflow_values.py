"""Converts values to MLflow's metrics, parameters and tags, and writes them in one call."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def log_batch(
    client: Any,
    run_id: str,
    metrics: Sequence[Any] = (),
    params: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Writes everything in one call, in which MLflow writes parameters before tags."""
    from mlflow.entities import Param, RunTag

    client.log_batch(
        run_id,
        metrics=metrics,
        params=[Param(key, value) for key, value in (params or {}).items()],
        tags=[RunTag(key, value) for key, value in (tags or {}).items()],
    )


def metrics_at(values: Mapping[str, float], step: int, at: int) -> list[Any]:
    """Returns MLflow metrics of one training step; `at` is the time in ms since 1970."""
    from mlflow.entities import Metric

    return [Metric(name, value, at, step) for name, value in values.items()]


def flatten(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields nested mappings and lists of mappings as dotted names and values: training.stages.0.steps."""
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from flatten(value, f"{prefix}{key}.")
    elif isinstance(values, list) and values and isinstance(values[0], Mapping):
        for index, value in enumerate(values):
            yield from flatten(value, f"{prefix}{index}.")
    else:
        yield prefix.removesuffix("."), values
