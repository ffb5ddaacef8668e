"""The private part of Optuna that EAR uses. Tested with Optuna 5.0.0; pyproject.toml requires optuna < 6."""

from optuna.trial import FrozenTrial


def storage_id(trial: FrozenTrial) -> int:
    """Returns the id by which a storage knows a trial.

    Storages and `optuna.Trial` take this id, but Optuna publishes only a trial's number. EAR needs it to resume a trial
    of another process, and to set a trial back to WAITING.
    """
    return int(trial._trial_id)
