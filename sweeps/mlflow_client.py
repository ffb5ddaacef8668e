"""MLflow's client: where it tracks, and its faults in words."""

import logging
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from filelock import FileLock

from ear.errors import UserError, import_extra

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # Its own retries block for minutes; ours go on for as long as the sweep does.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}


def tracking_uri(root: Path) -> str:
    """Where runs are tracked: MLFLOW_TRACKING_URI, or a sqlite file under the output root."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(root / 'mlflow.db').resolve()}"


def open_client(root: Path) -> Any:
    """An `MlflowClient`; makes the database when there is none.

    Raises:
        UserError: MLflow is not installed, or its database can't be opened.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    mlflow = import_extra("mlflow", "sweeps")
    for noisy in ("mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    with tracking_errors(root), _creation_lock(root):
        client = mlflow.MlflowClient(tracking_uri(root))
        client.search_experiments(max_results=1)
    return client


def _creation_lock(root: Path) -> AbstractContextManager[Any]:
    """Two processes that create one sqlite file at the same time break it for good."""
    return nullcontext() if "MLFLOW_TRACKING_URI" in os.environ else FileLock(root / "mlflow.db.lock")


@contextmanager
def tracking_errors(root: Path) -> Iterator[None]:
    """Turns MLflow's and its database's faults into a sentence with the remedy."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError) as error:
        reason = str(error).splitlines()[0]
        if tracking_uri(root).startswith("http"):
            raise UserError(
                f"MLflow's server {tracking_uri(root)} (MLFLOW_TRACKING_URI) can't be reached: {reason}. Start it, or "
                f"unset that variable to track in {root / 'mlflow.db'}."
            ) from error
        raise UserError(
            f"MLflow's database {tracking_uri(root)} can't be used: {reason}. If it is damaged, move it away and run "
            "the sweep again: it is filled anew from the store, nothing is trained twice."
        ) from error
