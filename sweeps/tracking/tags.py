"""The tags by which a sweep's runs are known in MLflow, beside its own."""

from typing import Any

KEY, DIGEST, PARAMETERS, SEED, OUTCOME = "ear.key", "ear.sweep", "ear.parameters", "ear.seed", "ear.outcome"
PARENT = "mlflow.parentRunId"
OBJECTIVE, OBJECTIVES = "ear.objective", "ear.objectives"  # the first of them, and all as a JSON list
TRIAL, ROLE, CONFIRMATION = "ear.trial", "ear.role", "confirmation"
LAST_RAN = "ear.last_ran"  # when a driver took a sweep up last, in ms, as MLflow counts
STAGES = "ear.stage_keys"  # set last: a run that lacks it was left half made


def last_ran(parent: Any) -> int:
    """When a driver took this sweep up last, in ms: of several with one name, one that began first may be the last."""
    noted = parent.data.tags.get(LAST_RAN)  # not by earlier versions
    return int(noted) if noted else max(parent.info.start_time, parent.info.end_time or 0)
