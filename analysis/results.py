"""Reads a sweep's runs from MLflow into a table with a row per run."""

import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.axis_values import NOT_DRAWN, axis_column
from analysis.conditions import Conditions, conditions_of
from analysis.statistics import OUTCOMES
from ear.config import load_config
from ear.errors import UserError
from ear.terminal.credentials import shown
from sweeps.spec.search_schema import BoundConfig
from sweeps.spec.tags import (
    CONFIRMATION_ROLE,
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
from sweeps.tracking.mlflow_client import open_client, search_runs, tracking_errors, tracking_uri
from sweeps.tracking.parent_run import SETTINGS_FILE

METRICS = ("fid", "is", "precision", "recall", "fid_null", "is_null", "precision_null", "recall_null")


@dataclass(frozen=True)
class SweepResults:
    """The results of a sweep in MLflow."""

    name: str
    axes: list[str]  # dotted parameters
    frame: pd.DataFrame  # a row per ended run: the axes, seed, outcome, metrics, run_id
    conditions: list[Conditions]  # distinct evaluation conditions; several only if an axis varies them
    client: Any  # MlflowClient, for artifacts
    confirmations: pd.DataFrame  # a search's confirmation runs, with `trial` and `images`
    objectives: list[str]  # the metrics that rank
    constraints: dict[str, BoundConfig] = field(default_factory=dict)  # of a search, by metric
    earlier: list[list[str]] = field(default_factory=list)  # axes of earlier sweeps of this name, newest first
    incomplete: str = ""  # what the sweep still lacks, as a sentence; empty if nothing
    base: dict[str, Any] = field(default_factory=dict)  # of a grid: the base's value of each axis, where it is known

    @property
    def objective(self) -> str:
        """The first objective."""
        return self.objectives[0]

    @property
    def searched(self) -> bool:
        """Whether the sweep is a search, not a grid."""
        return "trial" in self.frame

    @property
    def finished(self) -> pd.DataFrame:
        """The rows of finished runs."""
        return self.frame[self.frame["outcome"] == "finished"]

    @property
    def rests_on(self) -> set[str]:
        """The store keys of the evaluations that give the numbers, and of the stages of diverged runs."""
        return {key for run in self.all_runs for key in run["rests_on"]}

    @property
    def all_runs(self) -> list[dict[str, Any]]:
        """All rows, including those of a search's confirmation."""
        return [run for frame in (self.frame, self.confirmations) for run in frame.to_dict("records")]


def load_results(name: str, root: Path) -> SweepResults:
    """Loads the results of the sweep of this name that ran last.

    Raises:
        UserError: there is none, none of its runs has ended, or its runs were measured under different conditions.
    """
    client = open_client(root, reading=True)
    with tracking_errors(root):
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            known = sorted(each.name for each in client.search_experiments() if each.name != "Default")
            raise UserError(
                f"There is no sweep {name!r} in {shown(tracking_uri(root))}; known: {', '.join(known) or 'none'}."
            )
        parents = search_runs(client, experiment.experiment_id, f"tags.`{DIGEST}` != ''")
        if not parents:
            raise UserError(f"The MLflow experiment {name!r} contains no EAR sweep.")
        parent, *others = sorted(parents, key=last_ran, reverse=True)
        runs = search_runs(client, experiment.experiment_id, f"tags.`{PARENT}` = '{parent.info.run_id}'")
        searched = any(TRIAL in run.data.tags for run in runs)
        settings = sweep_settings(client, parent.info.run_id)
    ended = [run for run in runs if has_ended(run)]
    measured = [run for run in ended if run.data.tags.get(ROLE) != CONFIRMATION_ROLE]
    if not measured:
        raise UserError(f"No run of {name!r} has ended yet: continue it with `ear sweep run FILE`.")
    axes = json.loads(parent.data.tags[PARAMETERS])
    objective = parent.data.tags.get(OBJECTIVE, "fid")  # earlier versions had no other
    again = [
        run for run in ended if run.data.tags.get(ROLE) == CONFIRMATION_ROLE and run.data.tags[OUTCOME] != "failed"
    ]
    return SweepResults(
        name,
        axes,
        frame_of(measured, axes),
        conditions_of(measured, axes),
        client,
        confirmations(again),
        json.loads(parent.data.tags.get(OBJECTIVES, json.dumps([objective]))),
        constraints(settings) if searched else {},
        [json.loads(other.data.tags[PARAMETERS]) for other in others],
        unfinished_search(parent, measured) if searched else missing_runs(settings, len(measured)),
        {} if searched else base_values(settings, axes),
    )


def has_ended(run: Any) -> bool:
    """Whether a run's outcome is final: a failed run keeps its tag while it is tried again."""
    outcome = run.data.tags.get(OUTCOME)
    return outcome in OUTCOMES and (outcome != "failed" or run.info.status == "FAILED")


def sweep_settings(client: Any, parent: str) -> dict[str, Any]:
    """Returns a sweep's settings, as stored with its parent run."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(client.download_artifacts(parent, SETTINGS_FILE, folder))
        settings: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return settings


def constraints(settings: Mapping[str, Any]) -> dict[str, BoundConfig]:
    """Returns a search's constraints."""
    return {metric: BoundConfig(**bound) for metric, bound in settings["search"]["constraints"].items()}


def base_values(settings: Mapping[str, Any], axes: Sequence[str]) -> dict[str, Any]:
    """Returns the base's value of each axis; nothing if the base can't be read any more."""
    try:
        config = load_config(settings["base"]).model_dump(mode="json")
    except (KeyError, UserError):  # a file that was moved
        return {}
    return {axis: settings["set"].get(axis, value_at(config, axis)) for axis in axes}


def value_at(config: Any, parameter: str) -> Any:
    """Returns a dotted parameter's value; None if the configuration does not have it."""
    for part in parameter.split("."):
        try:
            config = config[int(part)] if isinstance(config, list) else config[part]
        except (KeyError, IndexError, TypeError, ValueError):
            return None
    return config


def missing_runs(settings: Mapping[str, Any], ended: int) -> str:
    """States how many runs of a grid have ended; empty if all have."""
    planned = math.prod(len(values) for values in settings["space"].values()) * len(settings["seeds"])
    if ended >= planned:
        return ""
    return f"Incomplete: {ended} of {planned} runs have ended."


def unfinished_search(parent: Any, runs: Sequence[Any]) -> str:
    """States how many trials of an unfinished search have ended; empty if the search has finished."""
    if parent.info.status == "FINISHED":
        return ""
    trials = len({run.data.tags[TRIAL] for run in runs})
    return f"Incomplete: the search has not finished; {trials} of its trials have ended."


def confirmations(runs: list[Any]) -> pd.DataFrame:
    """Returns the confirmation runs of a search, a row each; only those with the largest number of images."""
    if not runs:
        return pd.DataFrame()
    found = pd.DataFrame([{**row(run), "images": run.data.metrics.get("images")} for run in runs])
    images = found["images"]  # NaN for diverged runs; fewer for runs under earlier settings
    return found[(images == images.max()) | images.isna()].reset_index(drop=True)


def frame_of(runs: Sequence[Any], axes: list[str]) -> pd.DataFrame:
    """Returns a table with a row per run, sorted by the axes and the seed.

    Raises:
        UserError: a grid's run has no value for an axis.
    """
    points = [json.loads(run.data.tags[PARAMETERS]) for run in runs]
    for run, point in zip(runs, points, strict=True):
        if TRIAL not in run.data.tags:  # in a search, some parameters may not be drawn
            require_axes(point, axes)
    columns = {axis: axis_column([point.get(axis, NOT_DRAWN) for point in points]) for axis in axes}
    frame = pd.DataFrame({**columns, **pd.DataFrame([row(run) for run in runs])})
    return frame.sort_values([*axes, "seed"], ignore_index=True)


def require_axes(point: Mapping[str, Any], axes: Sequence[str]) -> None:
    """Checks that a grid's run has a value for every axis.

    A run may lack one if the YAML spells the axes in another way than before and no driver has updated the run yet.
    Without the value, runs of different configurations would look like seeds of one.

    Raises:
        UserError: a value is missing.
    """
    if missing := [axis for axis in axes if axis not in point]:
        raise UserError(
            f"MLflow has runs of this sweep without a value of {', '.join(missing)}, but of {', '.join(point)}: its "
            "axes were spelled in two ways. Run the sweep again, which trains nothing again, or wait for the running "
            "driver; then write the report."
        )


def row(run: Any) -> dict[str, Any]:
    """Returns a run's row without the values of its axes."""
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
