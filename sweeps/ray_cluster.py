"""A Ray cluster of this machine alone, for as long as a sweep runs, closed to everybody else."""

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from ear.errors import UserError, import_extra

OBJECT_STORE_BYTES = 100 * 2**20  # trials exchange nothing but small dictionaries


def available_cpus() -> int:
    """CPUs that this process may use, which in a container or a job are fewer than the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def local_cluster(cpus: int, gpus: int) -> Iterator[Path]:
    """Starts Ray on loopback and stops it at the end; yields its temporary folder, which goes with it.

    Raises:
        UserError: Ray is not installed, or a temporary folder can't be made.
    """
    # Read by Ray at import and by the processes that it starts. The GCS listens on all addresses whatever it is told,
    # so every cluster gets a secret of its own.
    try:
        folder = Path(tempfile.mkdtemp(prefix="ear-"))  # short: it becomes part of unix sockets' paths
    except OSError as error:
        raise UserError(f"No temporary folder can be made ({error}); set TMPDIR to one that is writable.") from error
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    os.environ |= {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_AIR_NEW_OUTPUT": "0",  # the live table is ours
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # so is the record of results
        "TUNE_DISABLE_SIGINT_HANDLER": "1",  # and so is Ctrl-C
        "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
        "RAY_CHDIR_TO_TRIAL_DIR": "0",  # a relative output root means the same in a trial
    }
    ray: ModuleType = import_extra("ray", "sweeps")
    import_extra("ray.tune", "sweeps")
    try:
        ray.init(
            address="local",
            num_cpus=cpus,
            num_gpus=gpus,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            object_store_memory=OBJECT_STORE_BYTES,
            _node_ip_address="127.0.0.1",
            _temp_dir=str(folder),
        )
        yield folder
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
