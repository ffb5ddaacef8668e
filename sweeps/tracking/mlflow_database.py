"""Creates, probes and copies MLflow's database, and corrects the artifact paths in it after its root was moved.

MLflow stores absolute artifact paths and has no call to change them. So after an output root was moved, the paths are
corrected here; only those that this program chose, ROOT/mlartifacts/SWEEP.
"""

import sqlite3
import uuid
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from filelock import FileLock

from ear.files.writing import may_write
from sweeps.spec.tags import CHECKPOINT_TAG

UNFINISHED = ".mlflow-"  # prefix of a database that is being created
ARTIFACTS = "mlartifacts"
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
SECONDS_OF_A_LOCK = 5.0  # a shorter lock is normal: other drivers write too

RELOCATION = (
    "UPDATE experiments SET artifact_location = :new WHERE experiment_id = :id",
    "UPDATE runs SET artifact_uri = replace(artifact_uri, :old, :new) WHERE experiment_id = :id",
    "UPDATE tags SET value = replace(value, :old_root, :new_root) WHERE key = :tag "
    "AND run_uuid IN (SELECT run_uuid FROM runs WHERE experiment_id = :id)",
)


def is_database(uri: str) -> bool:
    """Whether a tracking URI is that of a database, which MLflow's client opens itself, without a server."""
    return urlsplit(uri).scheme.partition("+")[0] in DATABASES


def sqlite_uri(path: Path) -> str:
    """Returns the URI of a sqlite file, whatever characters its path has.

    In a plain URI, `a%20b` would mean the file `a b`, and `a?b` the file `a`.
    """
    if not {"%", "?"} & set(str(path)):
        return f"sqlite:///{path}"
    from sqlalchemy import URL

    # With the driver's name; without it, MLflow creates a folder named like the quoted path.
    return URL.create("sqlite+pysqlite", database=str(path)).render_as_string()


def sqlite_file(uri: str) -> Path | None:
    """Returns the file of a sqlite URI; None for other databases and for one in memory."""
    if not uri.startswith("sqlite"):
        return None
    from sqlalchemy import make_url

    name = make_url(uri).database
    return None if not name or name == ":memory:" else Path(name)


def create_database(root: Path, client_of: Callable[[str], Any]) -> None:
    """Creates the root's sqlite file if it is missing: under a temporary name, then by a rename.

    Creation takes MLflow seconds. Two processes that create the same file, or one that is killed meanwhile, would
    leave it broken.
    """
    with FileLock(root / "mlflow.db.lock"):
        if (root / "mlflow.db").exists():
            return
        for left in root.glob(f"{UNFINISHED}*"):  # of killed processes
            left.unlink(missing_ok=True)
        temporary = root / f"{UNFINISHED}{uuid.uuid4().hex}.db"
        client_of(sqlite_uri(temporary.resolve())).search_experiments(max_results=1)
        temporary.rename(root / "mlflow.db")


def try_database(path: Path, writing: bool) -> None:
    """Checks that a database can be read or written now. MLflow would only find out after minutes of retries.

    Raises:
        sqlite3.Error: it can't.
    """
    with closing(sqlite3.connect(path, timeout=SECONDS_OF_A_LOCK, isolation_level=None)) as connection:
        if writing:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()


def is_writable(path: Path) -> bool:
    """Whether a database can be changed: sqlite writes to the file and creates others beside it."""
    return may_write(path) and may_write(path.parent)


def copy_database(path: Path, copy: Path) -> None:
    """Copies a database in a consistent state, while others may write to it."""
    uri = f"{path.resolve().as_uri()}?mode=ro"
    try:
        _copy(uri, copy)
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise
        _copy(f"{uri}&immutable=1", copy)  # a read-only folder: sqlite can't write its journal beside the file


def _copy(uri: str, copy: Path) -> None:
    with (
        closing(sqlite3.connect(uri, uri=True, timeout=SECONDS_OF_A_LOCK)) as source,
        closing(sqlite3.connect(copy)) as target,
    ):
        source.backup(target)


def artifact_folder(root: Path, sweep: str) -> Path:
    """Returns the folder of a sweep's artifacts."""
    return (root / ARTIFACTS / sweep).resolve()


def local_folder(location: str) -> Path | None:
    """Returns the folder of an MLflow artifact location; None if it is not a local one."""
    parts = urlsplit(location)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


@dataclass(frozen=True)
class Misplaced:
    """An experiment whose stored artifact location is below another root than its artifacts."""

    experiment: Any  # id
    location: str  # stored location
    old_root: Path
    folder: Path  # actual location
    root: Path


def misplaced(uri: str, root: Path, own: bool) -> list[Misplaced]:
    """Returns the experiments whose artifact location must be corrected; none if the database is still empty.

    In the root's `own` database, these are all experiments located below another root. Any other database is shared,
    and most of its experiments belong to other roots: there, only those whose artifacts this root holds.
    """
    from sqlalchemy import create_engine, inspect, text

    engine, found = create_engine(uri), []
    try:
        with engine.connect() as connection:
            if not inspect(connection).has_table("experiments"):
                return []
            rows = connection.execute(text("SELECT experiment_id, name, artifact_location FROM experiments")).all()
    finally:
        engine.dispose()
    for experiment, name, location in rows:
        there, here = local_folder(location or ""), artifact_folder(root, name)
        if there is None or there == here or there.parts[-2:] != (ARTIFACTS, name):
            continue
        if own or (here.is_dir() and not there.exists()):
            found.append(Misplaced(experiment, location, there.parents[1], here, root.resolve()))
    return found


def relocate(uri: str, experiments: list[Misplaced]) -> None:
    """Corrects the artifact locations of experiments and their runs, and the runs' checkpoint tags."""
    from sqlalchemy import create_engine, text

    if not experiments:
        return
    engine = create_engine(uri)
    try:
        with engine.begin() as connection:
            for each in experiments:
                values = {
                    "id": each.experiment,
                    "old": each.location,
                    "new": each.folder.as_uri(),
                    "old_root": f"{each.old_root}/",
                    "new_root": f"{each.root}/",
                    "tag": CHECKPOINT_TAG,
                }
                for statement in RELOCATION:
                    connection.execute(text(statement), values)
    finally:
        engine.dispose()
