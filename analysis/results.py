"""A sweep's runs, read from MLflow into a table with a row a run."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.axis_values import NOT_DRAWN, axis_column
from analysis.conditions import Conditions, conditions_of
from analysis.statistics import OUTCOMES
from ear.errors import UserError
from ear.terminal.credentials import shown
from sweeps.spec.search_schema import BoundConfig
from sweeps.tracking.mlflow_client import open_client, tracking_errors, tracking_uri
from sweeps.tracking.tags import (
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
    STAGES,
    TRIAL,
    last_ran,
)

METRICS = ("fid", "is", "precision", "recall", "fid_null", "is_null", "precision_null", "recall_null")


@dataclass(frozen=True)
class SweepResults:
    name: str
    axes: list[str]  # dotted parameters
    frame: pd.DataFrame  # a row for each run that has ended: the axes, seed, outcome, metrics, run_id
    conditions: list[Conditions]  # that runs were measured with; several where an axis decides them
    client: Any  # MlflowClient, for artifacts
    confirmations: pd.DataFrame  # of a search: the runs that measured its best again, with `trial` and `images`
    objectives: list[str]  # the metrics that rank
    constraints: dict[str, BoundConfig] = field(default_factory=dict)  # of a search, by metric
    earlier: list[list[str]] = field(default_factory=list)  # the axes of other sweeps that had this name, newest first

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

    @property
    def rests_on(self) -> set[str]:
        """The keys of the results that the numbers come from, and those of the trainings that diverged."""
        return {key for run in self.all_runs for key in run["rests_on"]}

    @property
    def all_runs(self) -> list[dict[str, Any]]:
        """Every row, those of a search's confirmation among them."""
        return [run for frame in (self.frame, self.confirmations) for run in frame.to_dict("records")]


def load_results(name: str, root: Path) -> SweepResults:
    """The sweep of this name that ran last.

    Raises:
        UserError: there is none, none of its runs has ended, or its runs were not measured alike.
    """
    client = open_client(root, reading=True)
    with tracking_errors(root):
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            known = sorted(each.name for each in client.search_experiments() if each.name != "Default")
            raise UserError(
                f"There is no sweep {name!r} in {shown(tracking_uri(root))}; there is {', '.join(known) or 'none'}."
            )
        parents = found_runs(client, experiment.experiment_id, f"tags.`{DIGEST}` != ''")
        if not parents:
            raise UserError(f"The experiment {name!r} holds no sweep of this program.")
        parent, *others = sorted(parents, key=last_ran, reverse=True)
        runs = found_runs(client, experiment.experiment_id, f"tags.`{PARENT}` = '{parent.info.run_id}'")
        searched = any(TRIAL in run.data.tags for run in runs)
        bounds = constraints(client, parent.info.run_id) if searched else {}
    ended = [run for run in runs if has_ended(run)]
    measured = [run for run in ended if run.data.tags.get(ROLE) != CONFIRMATION]
    if not measured:
        raise UserError(f"No run of {name!r} has ended yet: ear sweep run FILE goes on with it.")
    axes = json.loads(parent.data.tags[PARAMETERS])
    objective = parent.data.tags.get(OBJECTIVE, "fid")  # an earlier version noted no others
    again = [run for run in ended if run.data.tags.get(ROLE) == CONFIRMATION and run.data.tags[OUTCOME] != "failed"]
    return SweepResults(
        name,
        axes,
        frame_of(measured, axes),
        conditions_of(measured, axes),
        client,
        confirmations(again),
        json.loads(parent.data.tags.get(OBJECTIVES, json.dumps([objective]))),
        bounds,
        [json.loads(other.data.tags[PARAMETERS]) for other in others],
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


def found_runs(client: Any, experiment: str, wanted: str) -> list[Any]:
    """All runs of an experiment that MLflow's filter admits."""
    found: list[Any] = []
    token = None
    while True:
        page = client.search_runs([experiment], wanted, max_results=1000, page_token=token)
        found += page
        token = page.token
        if not token:
            return found


def frame_of(runs: Sequence[Any], axes: list[str]) -> pd.DataFrame:
    """A row a run, sorted by the axes, whose values pandas can group by, and the seed.

    Raises:
        UserError: a grid's run has no value for an axis.
    """
    points = [json.loads(run.data.tags[PARAMETERS]) for run in runs]
    for run, point in zip(runs, points, strict=True):
        if TRIAL not in run.data.tags:  # only a search has parameters that are not drawn
            require_axes(point, axes)
    columns = {axis: axis_column([point.get(axis, NOT_DRAWN) for point in points]) for axis in axes}
    frame = pd.DataFrame({**columns, **pd.DataFrame([row(run) for run in runs])})
    return frame.sort_values([*axes, "seed"], ignore_index=True)


def require_axes(point: Mapping[str, Any], axes: Sequence[str]) -> None:
    """
    Raises:
        UserError: this run of a grid is noted under other axes. A driver that spells them otherwise has not come to it,
            and without their values runs of different configurations would pass for seeds of one.
    """
    if missing := [axis for axis in axes if axis not in point]:
        raise UserError(
            f"MLflow has runs of this sweep without a value of {', '.join(missing)}, but of {', '.join(point)}: its "
            "axes were spelled in two ways. Run the sweep again, which trains nothing anew, or wait for the driver "
            "that does; then write the report."
        )


def row(run: Any) -> dict[str, Any]:
    """What is known of a run beside the values of its axes."""
    tags, metrics = run.data.tags, run.data.metrics
    stages = json.loads(tags.get(STAGES, "[]"))
    rests_on = {"finished": [tags[KEY]], "diverged": stages}
    return {
        **({"trial": int(tags[TRIAL])} if TRIAL in tags else {}),
        "seed": int(tags[SEED]),
        "outcome": tags[OUTCOME],
        "diverged_at": metrics.get("diverged_at"),
        **{name: metrics.get(name) for name in METRICS},
        "train_seconds": metrics.get("train_seconds"),
        "run_id": run.info.run_id,
        "key": tags[KEY],
        "stages": stages,
        "rests_on": rests_on.get(tags[OUTCOME], []),
    }
