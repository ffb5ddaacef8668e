"""MLflow's client: where it tracks, and its faults in words."""

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


class DatabaseLockedError(UserError):
    """Another program writes to the database, and does not come to an end."""


def given_uri() -> str | None:
    """MLFLOW_TRACKING_URI; None where it is not set, or to nothing."""
    return os.environ.get(VARIABLE, "").strip() or None


def tracking_uri(root: Path) -> str:
    """Where runs are tracked: MLFLOW_TRACKING_URI, or a sqlite file under the output root."""
    return given_uri() or sqlite_uri((root / "mlflow.db").resolve())


def is_server(uri: str) -> bool:
    return uri.startswith(("http://", "https://"))


def open_client(root: Path, *, sweep: str | None = None, reading: bool = False) -> Any:
    """An `MlflowClient` for writing runs, of this `sweep`, or only for `reading` them.

    The one who writes makes the database where there is none, and puts right what it says of a root that was moved: of
    all sweeps in the root's own database, of its own sweep alone in one that MLFLOW_TRACKING_URI names.
    Whoever reads changes nothing: a database that can't be used as it is, since its root was moved or is read-only, is
    copied, and the copy goes with the client.

    Raises:
        UserError: MLflow is not installed, or its server or database can't be used, or there is none to read.
        DatabaseLockedError: likewise, of one that somebody else locks.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    mlflow = import_extra("mlflow", "sweeps")
    for noisy in ("mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # what it logs, it raises too
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
    """What MLflow is to open, and the folder of the copy if it is one."""
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


def refuses(error: Exception) -> bool:
    """Whether MLflow, and not a proxy before it, says that what it was given is wrong: it will say so later, too."""
    from mlflow.exceptions import MlflowException

    if not isinstance(error, MlflowException) or error.error_code == "ENDPOINT_NOT_FOUND":
        return False
    return _status(error) in (400, 404, 409)


def is_busy(error: Exception) -> bool:
    """Whether waiting is all that helps: a locked database, an overloaded server, a disk without room."""
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
    """HTTP's, which MLflow's errors have without a server too."""
    return int(error.get_http_status_code())


@contextmanager
def tracking_errors(root: Path) -> Iterator[None]:
    """Turns MLflow's and its database's faults into a sentence with the remedy."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, sqlite3.Error, ImportError) as error:
        if is_locked(error):
            raise DatabaseLockedError(
                f"MLflow's database {shown(tracking_uri(root))} is locked by another program. End that, or wait for it."
            ) from error
        raise UserError(in_words(root, error)) from error


def in_words(root: Path, error: Exception) -> str:
    """What is wrong with where runs are tracked, and how to mend it."""
    reason, given = in_a_line(error), given_uri()
    otherwise = f"unset that variable to track in {root / 'mlflow.db'}"
    if given is None:
        return (
            f"MLflow's database {root / 'mlflow.db'} can't be used: {reason}. If it is damaged, move it away and run "
            "the sweep again: it is filled anew from the store, nothing is trained twice."
        )
    if is_server(given):
        return f"MLflow's server {shown(given)} ({VARIABLE}) can't be reached: {reason}. Start it, or {otherwise}."
    if is_database(given):
        return f"MLflow's database {shown(given)} ({VARIABLE}) can't be used: {reason}. Mend that, or {otherwise}."
    meant = f"http://{given}" if re.fullmatch(r"[\w.-]+:\d+/?", given) else "http://HOST:PORT"
    kinds = f"a server as {meant}, or a database as sqlite:////FOLDER/FILE.db"
    if given.startswith("databricks"):
        return f"{VARIABLE} is {shown(given)!r}, which can't be used: {reason}. Mend that, or {otherwise}."
    return f"{VARIABLE} is {shown(given)!r}, where MLflow can't track runs: give {kinds}; or {otherwise}."


def in_a_line(error: Exception) -> str:
    """What an error of MLflow's, or of what it uses, says first, which may quote the address with its password."""
    return hidden((str(error).splitlines() or [type(error).__name__])[0])
