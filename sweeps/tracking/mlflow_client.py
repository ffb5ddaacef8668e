"""Opens MLflow's client and turns its errors into readable messages."""

import errno
import logging
import os
import re
import shutil
import sqlite3
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ear.errors import UserError, import_extra
from ear.terminal.credentials import hidden, shown
from sweeps.tracking.mlflow_database import (
    copy_database,
    create_database,
    is_database,
    is_writable,
    misplaced,
    relocate,
    sqlite_file,
    sqlite_uri,
    try_database,
)

VARIABLE = "MLFLOW_TRACKING_URI"
RUNS_PER_PAGE = 1000
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight processes for language models, which outlive `ear ui`
    # MLflow's own retries block for minutes, and create a run twice if a response is lost. Our retries check first,
    # and continue as long as the sweep runs.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}


class DatabaseLockedError(UserError):
    """Raised when another program keeps MLflow's database locked."""


def given_uri() -> str | None:
    """Returns MLFLOW_TRACKING_URI; None if it is not set or empty."""
    return os.environ.get(VARIABLE, "").strip() or None


@contextmanager
def tracked_at(uri: str | None) -> Iterator[None]:
    """Makes this the tracking URI meanwhile, as if the variable had been set to it; changes nothing for None."""
    before = os.environ.get(VARIABLE)
    if uri is not None:
        os.environ[VARIABLE] = uri
    try:
        yield
    finally:
        if before is not None:
            os.environ[VARIABLE] = before
        elif uri is not None:
            del os.environ[VARIABLE]


def tracking_uri(root: Path) -> str:
    """Returns where runs are tracked: MLFLOW_TRACKING_URI, or a sqlite file under the output root."""
    return given_uri() or sqlite_uri((root / "mlflow.db").resolve())


def is_server(uri: str) -> bool:
    """Whether a tracking URI is that of an MLflow server."""
    return uri.startswith(("http://", "https://"))


def open_client(root: Path, *, sweep: str | None = None, reading: bool = False) -> Any:
    """Returns an `MlflowClient` for writing the runs of `sweep`, or only for `reading`.

    For writing, it creates a missing database, and corrects the artifact paths if the output root was moved: of all
    sweeps in the root's own database, but only of `sweep` in a database that MLFLOW_TRACKING_URI names.
    For reading, it changes nothing: if the root was moved or is read-only, it opens a temporary copy of the database,
    which is deleted with the client.

    Raises:
        UserError: MLflow is not installed, its server or database can't be used, or there is nothing to read.
        DatabaseLockedError: another program has locked the database.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    mlflow = import_extra("mlflow", "sweeps")
    for noisy in ("mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # it also raises what it logs
    with tracking_errors(root):
        if not reading and given_uri() is None:
            create_database(root, mlflow.MlflowClient)
        uri, copy = prepared(root, sweep, writing=not reading)
        client = mlflow.MlflowClient(uri)
        if copy is not None:
            weakref.finalize(client, shutil.rmtree, copy, ignore_errors=True)
        client.search_experiments(max_results=1)
    return client


def prepared(root: Path, sweep: str | None, writing: bool) -> tuple[str, Path | None]:
    """Returns the URI for MLflow to open, and the folder of the copy if it is one.

    Raises:
        UserError: there is no database to read.
    """
    uri, own = tracking_uri(root), given_uri() is None
    file = sqlite_file(uri)
    if file is not None:
        if not writing and not (file.exists() and file.stat().st_size):
            where = f"{root}; run one, or name its root with --root" if own else f"{shown(uri)} ({VARIABLE}); run one"
            raise UserError(f"No sweep has been run under {where}.")
        if writing or is_writable(file):
            try_database(file, writing)
    if writing and is_database(uri):
        relocate(uri, [each for each in misplaced(uri, root, own) if own or each.folder.name == sweep])
    if writing or file is None or (is_writable(file) and not misplaced(uri, root, own)):
        return uri, None
    folder = Path(tempfile.mkdtemp(prefix="ear-mlflow-"))
    copy_database(file, folder / "mlflow.db")
    copy = sqlite_uri(folder / "mlflow.db")
    relocate(copy, misplaced(copy, root, own))
    return copy, folder


def search_runs(client: Any, experiment: str, filter_string: str, *, deleted: bool = False) -> list[Any]:
    """Returns all runs of an experiment that match a filter: the active ones, or the deleted ones."""
    from mlflow.entities import ViewType

    view = ViewType.DELETED_ONLY if deleted else ViewType.ACTIVE_ONLY
    found: list[Any] = []
    token = None
    while True:
        page = client.search_runs([experiment], filter_string, view, RUNS_PER_PAGE, page_token=token)
        found += page
        token = page.token
        if not token:
            return found


def refuses(error: Exception) -> bool:
    """Whether MLflow itself, not a proxy, rejected the request, so that a retry would fail too."""
    from mlflow.exceptions import MlflowException

    if not isinstance(error, MlflowException) or error.error_code == "ENDPOINT_NOT_FOUND":
        return False
    return _status(error) in (400, 404, 409)


def is_busy(error: Exception) -> bool:
    """Whether only waiting helps: a locked database, an overloaded server, a full disk."""
    from mlflow.exceptions import MlflowException

    if is_locked(error):
        return True
    if isinstance(error, MlflowException):
        return _status(error) in (429, 503, 504)
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def is_locked(error: Exception) -> bool:
    """Whether another program keeps MLflow's sqlite file locked."""
    return isinstance(error, DatabaseLockedError) or re.search(r"database (\w+ )?is locked", str(error)) is not None


def _status(error: Any) -> int:
    """The HTTP status code, which MLflow's errors have even without a server."""
    return int(error.get_http_status_code())


@contextmanager
def tracking_errors(root: Path) -> Iterator[None]:
    """Turns errors of MLflow and its database into a `UserError` with the fix.

    Raises:
        UserError: MLflow, its server or its database failed.
        DatabaseLockedError: another program has locked the database.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, sqlite3.Error, ImportError) as error:
        if is_locked(error):
            raise DatabaseLockedError(
                f"MLflow's database {shown(tracking_uri(root))} is locked by another program. Stop it, or wait for it."
            ) from error
        raise UserError(describe_error(root, error)) from error


def describe_error(root: Path, error: Exception) -> str:
    """Describes an error of the tracking server or database, and how to fix it."""
    reason, given = in_a_line(error), given_uri()
    otherwise = f"unset that variable to track in {root / 'mlflow.db'}"
    if given is None:
        return (
            f"MLflow's database {root / 'mlflow.db'} can't be used: {reason}. If it is damaged, move it away and run "
            "the sweep again: it is rebuilt from the store, and nothing is trained twice."
        )
    if is_server(given):
        return f"MLflow's server {shown(given)} ({VARIABLE}) can't be reached: {reason}. Start it, or {otherwise}."
    if is_database(given):
        return f"MLflow's database {shown(given)} ({VARIABLE}) can't be used: {reason}. Fix it, or {otherwise}."
    meant = f"http://{given}" if re.fullmatch(r"[\w.-]+:\d+/?", given) else "http://HOST:PORT"
    kinds = f"a server such as {meant} or a database such as sqlite:////FOLDER/FILE.db"
    if given.startswith("databricks"):
        return f"{VARIABLE} is {shown(given)!r}, which can't be used: {reason}. Fix it, or {otherwise}."
    return f"{VARIABLE} is {shown(given)!r}, where MLflow can't track runs: set it to {kinds}; or {otherwise}."


def in_a_line(error: Exception) -> str:
    """Returns the first line of an error, without the password that a quoted address may contain."""
    return hidden((str(error).splitlines() or [type(error).__name__])[0])
