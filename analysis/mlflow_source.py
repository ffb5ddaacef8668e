"""Reads a sweep's runs from MLflow: those of earlier versions, which kept no record, and those without a store here."""

import json
import tempfile
from pathlib import Path
from typing import Any

from analysis.statistics import OUTCOMES
from analysis.sweep_runs import METRICS, Row, RunOfSweep, SweepRuns
from ear.errors import UserError
from sweeps.spec.sweep_record import EVALUATION_SETTINGS
from sweeps.spec.tags import (
    CHECKPOINT_TAG,
    DIGEST,
    HOSTS,
    KEY,
    MEASURED_BY,
    OBJECTIVE,
    OBJECTIVES,
    OUTCOME,
    PARAMETERS,
    PARENT,
    ROLE,
    SEED,
    STAGES,
    TRIAL,
    detail,
    last_ran,
)
from sweeps.tracking.mlflow_client import search_runs
from sweeps.tracking.parent_run import SETTINGS_FILE

WORDS = ("extractor", "extractor_hash", "reference", "reference_hash")  # of MEASURED_BY; the others are numbers


def tracked_sweep(name: str, client: Any) -> SweepRuns | None:
    """Returns the sweep of this name that ran last; None if MLflow has no experiment of this name.

    Args:
        client: an MlflowClient.

    Raises:
        UserError: the experiment has no sweep.
    """
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        return None
    parents = search_runs(client, experiment.experiment_id, f"tags.`{DIGEST}` != ''")
    if not parents:
        raise UserError(f"The MLflow experiment {name!r} contains no EAR sweep.")
    parent, *others = sorted(parents, key=last_ran, reverse=True)
    runs = search_runs(client, experiment.experiment_id, f"tags.`{PARENT}` = '{parent.info.run_id}'")
    objective = parent.data.tags.get(OBJECTIVE, "fid")  # earlier versions had no other
    return SweepRuns(
        json.loads(parent.data.tags[PARAMETERS]),
        json.loads(parent.data.tags.get(OBJECTIVES, json.dumps([objective]))),
        _settings(client, parent.info.run_id),
        parent.info.status == "FINISHED",
        [
            RunOfSweep(json.loads(run.data.tags[PARAMETERS]), run.data.tags.get(ROLE, ""), row(run))
            for run in runs
            if has_ended(run)
        ],
        [json.loads(other.data.tags[PARAMETERS]) for other in others],
        str(experiment.experiment_id),
    )


def has_ended(run: Any) -> bool:
    """Whether a run's outcome is final: a failed run keeps its tag while it is tried again."""
    outcome = run.data.tags.get(OUTCOME)
    return outcome in OUTCOMES and (outcome != "failed" or run.info.status == "FAILED")


def _settings(client: Any, parent: str) -> dict[str, Any]:
    """The settings of a sweep's YAML, as stored with its parent run."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(client.download_artifacts(parent, SETTINGS_FILE, folder))
        settings: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return settings


def measured_by(run: Any, name: str) -> str | float | None:
    """Returns a condition of a run's evaluation; earlier versions stored the numbers as metrics."""
    tag: str | None = run.data.tags.get(detail(name))
    if name in WORDS:
        return tag
    metric: float | None = run.data.metrics.get(name)
    return metric if tag is None else float(tag)


def row(run: Any) -> Row:
    """Returns the row of an MLflow run, without the values of its axes."""
    tags, metrics, parameters = run.data.tags, run.data.metrics, run.data.params
    stages, outcome = json.loads(tags.get(STAGES, "[]")), tags[OUTCOME]
    checkpoint = tags.get(CHECKPOINT_TAG)
    return {
        **({"trial": int(tags[TRIAL])} if TRIAL in tags else {}),
        "seed": int(tags[SEED]),
        "outcome": outcome,
        "diverged_at": metrics.get("diverged_at"),
        **{name: metrics.get(name) for name in METRICS},
        **{name: measured_by(run, name) for name in MEASURED_BY},
        **{name: json.loads(parameters[name]) for name in EVALUATION_SETTINGS if name in parameters},
        "train_steps": metrics.get("train_steps"),
        "train_seconds": metrics.get("train_seconds"),
        "evaluate_seconds": metrics.get("evaluate_seconds"),
        "key": tags[KEY],
        "stages": stages,
        "rests_on": {"finished": [tags[KEY]], "diverged": stages}.get(outcome, []),
        "checkpoint": Path(checkpoint).parent.name if checkpoint else None,
        "git_commit": tags.get(detail("git_commit")),
        "hosts": json.loads(tags.get(HOSTS, "[]")),
        "run_id": run.info.run_id,
    }
