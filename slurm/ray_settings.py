"""Settings of Ray that a driver's cluster on one machine and the nodes of a SLURM job share."""

from slurm.allocation import Allocation

OBJECT_STORE_BYTES = 100 * 2**20  # enough: trials exchange only small dictionaries
RAY_SETTINGS = {
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # a trial with `gpus: 0` sees no GPU
    "RAY_AIR_NEW_OUTPUT": "0",  # the progress table replaces Tune's output
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the store and MLflow replace Tune's result files
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # the driver handles Ctrl-C itself
    "TUNE_GLOBAL_CHECKPOINT_S": "1e9",  # Tune's snapshots grow with the sweep, and nothing reads them
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # a relative output root means the same in a trial
}
"""Environment variables for every process of the cluster, on all nodes."""


def ray_memory(allocation: Allocation) -> int | None:
    """Returns the bytes of the allocation that trials may use; None if the cluster does not track memory."""
    return None if allocation.memory is None else max(allocation.memory - OBJECT_STORE_BYTES, OBJECT_STORE_BYTES)
