"""A sweep's runs, read from MLflow into a table with a row a run."""

import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.statistics import OUTCOMES
from ear.errors import UserError
from sweeps.mlflow_client import open_client, tracking_errors, tracking_uri
from sweeps.records import (
    CONFIRMATION,
    DIGEST,
    KEY,
    OBJECTIVE,
    OBJECTIVES,
    OUTCOME,
    PARAMETERS,
    PARENT,
    ROLE,
    SEED,
    TRIAL,
)
from sweeps.search.schema import BoundConfig

METRICS = ("fid", "is", "precision", "recall", "fid_null", "is_null", "precision_null", "recall_null")
# What every number of a report has to agree in, and is labelled with.
CONDITIONS = {  # condition -> the field of `evaluation` that decides it
    "extractor": "extractor",
    "extractor_hash": "extractor",
    "reference": "reference",
    "reference_hash": "reference",
    "reference_images": "reference",
    "images": "images",
    "null_images": "null_images",
}


@dataclass(frozen=True)
class SweepResults:
    name: str
    axes: list[str]  # dotted parameters
    frame: pd.DataFrame  # a row for each run that has ended: the axes, seed, outcome, metrics, run_id
    conditions: dict[str, Any]  # of the measurement: extractor, reference, numbers of images, sampling settings
    client: Any  # MlflowClient, for artifacts
    confirmations: pd.DataFrame  # of a search: the runs that measured its best again, with `trial` and `images`
    objectives: list[str]  # the metrics that rank
    constraints: dict[str, BoundConfig] = field(default_factory=dict)  # of a search, by metric

    @property
    def objective(self) -> str:
        """The first of those that rank."""
        return self.objectives[0]

    @property
    def searched(self) -> bool:
        """Whether configurations were proposed one after another, not laid out in a grid."""
        return "trial" in self.frame

    @property
    def finished(self) -> pd.DataFrame:
        return self.frame[self.frame["outcome"] == "finished"]


def load_results(name: str, root: Path) -> SweepResults:
    """The newest sweep of this name.

    Raises:
        UserError: there is none, it has no finished run, or its runs were not measured alike.
    """
    client = open_client(root, reading=True)
    with tracking_errors(root):
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            known = sorted(each.name for each in client.search_experiments() if each.name != "Default")
            raise UserError(
                f"There is no sweep {name!r} in {tracking_uri(root)}; there is {', '.join(known) or 'none'}."
            )
        parents = client.search_runs(
            [experiment.experiment_id], f"tags.`{DIGEST}` != ''", order_by=["attributes.start_time DESC"]
        )
        if not parents:
            raise UserError(f"The experiment {name!r} holds no sweep of this program.")
        runs = children(client, experiment.experiment_id, parents[0].info.run_id)
        searched = any(TRIAL in run.data.tags for run in runs)
        bounds = constraints(client, parents[0].info.run_id) if searched else {}
    ended = [run for run in runs if has_ended(run)]
    rows = [row(run) for run in ended if run.data.tags.get(ROLE) != CONFIRMATION]
    if not any(each["outcome"] == "finished" for each in rows):
        raise UserError(f"No run of {name!r} has been evaluated yet: ear sweep run FILE goes on with it.")
    axes = json.loads(parents[0].data.tags[PARAMETERS])
    objective = parents[0].data.tags.get(OBJECTIVE, "fid")  # an earlier version noted no others
    frame = pd.DataFrame(rows).sort_values([*axes, "seed"], ignore_index=True)
    measured = [run for run in runs if run.data.tags.get(ROLE) != CONFIRMATION]
    again = [run for run in ended if run.data.tags.get(ROLE) == CONFIRMATION and run.data.tags[OUTCOME] != "failed"]
    return SweepResults(
        name,
        axes,
        frame,
        common_conditions(measured, axes),
        client,
        confirmations(again),
        json.loads(parents[0].data.tags.get(OBJECTIVES, json.dumps([objective]))),
        bounds,
    )


def has_ended(run: Any) -> bool:
    """Whether a run has an outcome that stands: one that failed keeps its tag while a later call tries it again."""
    outcome = run.data.tags.get(OUTCOME)
    return outcome in OUTCOMES and (outcome != "failed" or run.info.status == "FAILED")


def constraints(client: Any, parent: str) -> dict[str, BoundConfig]:
    """A search's, from the settings that its parent run keeps."""
    with tempfile.TemporaryDirectory() as folder:
        settings = json.loads(Path(client.download_artifacts(parent, "sweep.json", folder)).read_text(encoding="utf-8"))
    return {metric: BoundConfig(**bound) for metric, bound in settings["search"]["constraints"].items()}


def confirmations(runs: list[Any]) -> pd.DataFrame:
    """The runs that measured a search's best again."""
    if not runs:
        return pd.DataFrame()
    found = pd.DataFrame([{**row(run), "images": run.data.metrics.get("images")} for run in runs])
    images = found["images"]  # none of those that diverged; fewer of those measured under earlier settings
    return found[(images == images.max()) | images.isna()].reset_index(drop=True)


def children(client: Any, experiment: str, parent: str) -> list[Any]:
    """All child runs of a sweep."""
    found: list[Any] = []
    token = None
    while True:
        page = client.search_runs([experiment], f"tags.`{PARENT}` = '{parent}'", max_results=1000, page_token=token)
        found += page
        token = page.token
        if not token:
            return found


def row(run: Any) -> dict[str, Any]:
    tags, metrics = run.data.tags, run.data.metrics
    return {
        **json.loads(tags[PARAMETERS]),
        **({"trial": int(tags[TRIAL])} if TRIAL in tags else {}),
        "seed": int(tags[SEED]),
        "outcome": tags[OUTCOME],
        "diverged_at": metrics.get("diverged_at"),
        **{name: metrics.get(name) for name in METRICS},
        "train_seconds": metrics.get("train_seconds"),
        "run_id": run.info.run_id,
        "key": tags[KEY],
    }


def common_conditions(runs: list[Any], axes: list[str]) -> dict[str, Any]:
    """What the finished runs were measured with.

    Raises:
        UserError: they differ in it, so that one table of them would mislead.
    """
    finished = [run for run in runs if run.data.tags.get(OUTCOME) == "finished"]
    conditions: dict[str, Any] = {}
    for name, decided_by in CONDITIONS.items():
        values = {run.data.tags.get(f"ear.{name}", run.data.metrics.get(name)) for run in finished}
        if name == "reference_hash" and len(values) > 1:
            values.discard(None)  # results of earlier versions do not tell
        if len(values) > 1 and f"evaluation.{decided_by}" not in axes:
            raise UserError(f"The sweep's runs differ in {name}: {', '.join(sorted(map(str, values)))}.")
        conditions[name] = values.pop()
    conditions["extractor_accuracy"] = finished[0].data.metrics.get("extractor_accuracy")
    for name in ("sampling.cfg", "sampling.steps", "sampling.infer_temperature"):
        if name not in axes:
            conditions[name] = finished[0].data.params[name]
    return conditions
