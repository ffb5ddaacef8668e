"""The MLflow tags of a sweep's runs."""

from typing import Any

KEY, DIGEST, PARAMETERS, SEED, OUTCOME = "ear.key", "ear.sweep", "ear.parameters", "ear.seed", "ear.outcome"
PARENT = "mlflow.parentRunId"
OBJECTIVE, OBJECTIVES = "ear.objective", "ear.objectives"  # the first one; all as a JSON list
TRIAL, ROLE, CONFIRMATION = "ear.trial", "ear.role", "confirmation"
LAST_RAN = "ear.last_ran"  # when a driver last started on the sweep, in ms since 1970
STAGES = "ear.stage_keys"  # written last: a run without it was left incomplete


def last_ran(parent: Any) -> int:
    """Returns when a driver last started on a sweep, in ms since 1970, from its parent run."""
    noted = parent.data.tags.get(LAST_RAN)  # missing in earlier versions
    return int(noted) if noted else max(parent.info.start_time, parent.info.end_time or 0)
