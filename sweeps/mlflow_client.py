"""MLflow's client: where it tracks, and its faults in words."""

import errno
import logging
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from ear.errors import UserError, import_extra

UNFINISHED = ".mlflow-"  # a database that is being made
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight processes for language models that outlive `ear ui`
    # Its own retries block for minutes, and create a run twice when an answer is lost on the way; ours look first, and
    # go on for as long as the sweep does.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
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
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # what it logs, it raises too
    with tracking_errors(root):
        if "MLFLOW_TRACKING_URI" not in os.environ:
            _create_database(root, mlflow.MlflowClient)
        client = mlflow.MlflowClient(tracking_uri(root))
        client.search_experiments(max_results=1)
    return client


def _create_database(root: Path, client_of: Callable[[str], Any]) -> None:
    """Makes the sqlite file where there is none: under a name of its own first.

    It takes MLflow seconds, and two processes that do it at once, or one that is killed meanwhile, break it for good.
    """
    with FileLock(root / "mlflow.db.lock"):
        if (root / "mlflow.db").exists():
            return
        for left in root.glob(f"{UNFINISHED}*"):  # by a killed process
            left.unlink(missing_ok=True)
        temporary = root / f"{UNFINISHED}{uuid.uuid4().hex}.db"
        client_of(f"sqlite:///{temporary.resolve()}").search_experiments(max_results=1)
        temporary.rename(root / "mlflow.db")


def refuses(error: Exception) -> bool:
    """Whether MLflow, and not a proxy before it, says that what it was given is wrong: it will say so later, too."""
    from mlflow.exceptions import MlflowException

    if not isinstance(error, MlflowException) or error.error_code == "ENDPOINT_NOT_FOUND":
        return False
    return _status(error) in (400, 404, 409)


def is_busy(error: Exception) -> bool:
    """Whether waiting is all that helps: a locked database, an overloaded server, a disk without room."""
    from mlflow.exceptions import MlflowException

    if isinstance(error, MlflowException):
        return _status(error) in (429, 503, 504)
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def _status(error: Any) -> int:
    """HTTP's, which MLflow's errors have without a server too."""
    return int(error.get_http_status_code())


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
