"""The view of a sweep's runs that MLflow's page opens with: which runs, sorted by what, with which columns.

MLflow shows no metric or parameter of runs that have many, until somebody picks columns. A view is stored as a tag of
the experiment, as its Share button does (MLflow 3.17), and an address names it by its key.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sweeps.spec.metric import better
from sweeps.spec.tags import KIND
from sweeps.tracking.mlflow_values import flatten

VIEW = "ear"  # key of the view
VIEW_TAG = f"mlflow.sharedViewState.{VIEW}"
METRICS = ("fid", "is", "precision", "recall")
MOST_PARAMETERS = 8  # columns; an axis can be a whole section


def run_view(axes: Sequence[str], config: Mapping[str, Any], objectives: Sequence[str]) -> str:
    """Returns the view of a sweep over these axes, as the tag's value.

    Args:
        config: the configuration of one of its runs, which says how many stages `training.stages.-1` counts from.
    """
    parameters = [name for axis in axes for name in parameter_names(axis, config)][:MOST_PARAMETERS]
    metrics = dict.fromkeys([*objectives, *METRICS])
    return json.dumps(
        {
            "searchFilter": f"tags.`{KIND}`='run'",
            "orderByKey": f"metrics.`{objectives[0]}`",
            "orderByAsc": better(objectives[0]) == "min",
            "selectedColumns": [
                *(f"params.`{name}`" for name in (*parameters, "seed")),
                *(f"metrics.`{name}`" for name in metrics),
            ],
        }
    )


def parameter_names(axis: str, config: Mapping[str, Any]) -> Iterator[str]:
    """Yields the parameters in MLflow that an axis sets: its own name, or all names of a section."""
    names: list[str] = []
    value: Any = config
    for part in axis.split("."):
        at: Any = part
        if isinstance(value, list):
            at = int(part) % len(value)  # -1 is the last
        elif not isinstance(value, Mapping) or part not in value:  # of a section that this configuration does not have
            yield axis
            return
        names.append(str(at))
        value = value[at]
    for name, _ in flatten({".".join(names): value}):
        yield name
