"""The MLflow tags of a sweep's runs."""

from typing import Any

PARENT = "mlflow.parentRunId"
KIND = "ear.kind"  # "sweep" for the parent run, "run" for a child run

# Of the parent run.
DIGEST = "ear.sweep"
PARAMETERS = "ear.parameters"  # JSON: the axes; of a child run, their values
OBJECTIVE, OBJECTIVES = "ear.objective", "ear.objectives"  # the first one; all as a JSON list
BEST = "ear.best"  # the run id of the best configuration's first run; of that child run, "true"
DESCRIPTION = "mlflow.note.content"  # MLflow shows it as Markdown
LAST_RAN = "ear.last_ran"  # when a driver last started on the sweep, in ms since 1970

# Of a child run.
KEY, SEED, OUTCOME = "ear.key", "ear.seed", "ear.outcome"
STAGES = "ear.stage_keys"  # written last: a run without it was left incomplete
TRIAL, ROLE = "ear.trial", "ear.role"  # of a search; roles are "proposal", "extra" and CONFIRMATION_ROLE
CONFIRMATION_ROLE = "confirmation"
CHECKPOINT_TAG = "ear.checkpoint"  # the checkpoint file in the store
HOSTS = "ear.hosts"  # JSON list of the machines that computed the run

# What an evaluation's numbers were measured with, as details: the same for most runs of a sweep, so no metrics.
MEASURED_BY = (
    "images",
    "null_images",
    "extractor",
    "extractor_hash",
    "extractor_accuracy",
    "reference",
    "reference_hash",
    "reference_images",
)


def detail(name: str) -> str:
    """Returns the tag of a field of the evaluation or of the provenance, such as `reference_hash`."""
    return f"ear.{name}"


def last_ran(parent: Any) -> int:
    """Returns when a driver last started on a sweep, in ms since 1970, from its parent run."""
    noted = parent.data.tags.get(LAST_RAN)  # missing in earlier versions
    return int(noted) if noted else max(parent.info.start_time, parent.info.end_time or 0)
