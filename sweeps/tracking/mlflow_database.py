"""The database that MLflow opens: made where there is none, tried, copied for those who must not change it, and told
where the artifacts are.

MLflow notes absolute places of artifacts, and has no call that changes them. So those of an output root that was moved
since are put right here; only those that this program chose, ROOT/mlartifacts/SWEEP.
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

UNFINISHED = ".mlflow-"  # a database that is being made
ARTIFACTS = "mlartifacts"
CHECKPOINT_TAG = "ear.checkpoint"  # of a run: the file in the store
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
SECONDS_OF_A_LOCK = 5.0  # that are nothing to speak of: other drivers write too

RELOCATION = (
    "UPDATE experiments SET artifact_location = :new WHERE experiment_id = :id",
    "UPDATE runs SET artifact_uri = replace(artifact_uri, :old, :new) WHERE experiment_id = :id",
    "UPDATE tags SET value = replace(value, :old_root, :new_root) WHERE key = :tag "
    "AND run_uuid IN (SELECT run_uuid FROM runs WHERE experiment_id = :id)",
)


def is_database(uri: str) -> bool:
    """Whether MLflow's client writes to it by itself, and puts artifacts where it is told."""
    return urlsplit(uri).scheme.partition("+")[0] in DATABASES


def sqlite_uri(path: Path) -> str:
    """Of a file with whatever characters in its path.

    As a URL, `a%20b` is the file `a b`, and `a?b` the file `a`.
    """
    if not {"%", "?"} & set(str(path)):
        return f"sqlite:///{path}"
    from sqlalchemy import URL

    # With the driver's name, or MLflow makes a folder that is called as the quoted one.
    return URL.create("sqlite+pysqlite", database=str(path)).render_as_string()


def sqlite_file(uri: str) -> Path | None:
    """The file of a database; None of any other, and of one in memory."""
    if not uri.startswith("sqlite"):
        return None
    from sqlalchemy import make_url

    name = make_url(uri).database
    return None if not name or name == ":memory:" else Path(name)


def create_database(root: Path, client_of: Callable[[str], Any]) -> None:
    """Makes the sqlite file where there is none: under a name of its own first.

    It takes MLflow seconds, and two processes that do it at once, or one that is killed meanwhile, break it for good.
    """
    with FileLock(root / "mlflow.db.lock"):
        if (root / "mlflow.db").exists():
            return
        for left in root.glob(f"{UNFINISHED}*"):  # by a killed process
            left.unlink(missing_ok=True)
        temporary = root / f"{UNFINISHED}{uuid.uuid4().hex}.db"
        client_of(sqlite_uri(temporary.resolve())).search_experiments(max_results=1)
        temporary.rename(root / "mlflow.db")


def try_database(path: Path, writing: bool) -> None:
    """Whether it can be read, or written, now. MLflow would find out as well, but tries again for minutes.

    Raises:
        sqlite3.Error: it can't.
    """
    with closing(sqlite3.connect(path, timeout=SECONDS_OF_A_LOCK, isolation_level=None)) as connection:
        if writing:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()


def is_writable(path: Path) -> bool:
    """Whether a database can be changed: sqlite makes files beside it."""
    return may_write(path) and may_write(path.parent)


def copy_database(path: Path, copy: Path) -> None:
    """As it is between two changes of others."""
    uri = f"{path.resolve().as_uri()}?mode=ro"
    try:
        _copy(uri, copy)
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise
        _copy(f"{uri}&immutable=1", copy)  # its journal would have to be written beside it, where nothing can be


def _copy(uri: str, copy: Path) -> None:
    with (
        closing(sqlite3.connect(uri, uri=True, timeout=SECONDS_OF_A_LOCK)) as source,
        closing(sqlite3.connect(copy)) as target,
    ):
        source.backup(target)


def artifact_folder(root: Path, sweep: str) -> Path:
    return (root / ARTIFACTS / sweep).resolve()


def local_folder(location: str) -> Path | None:
    """Of MLflow's location of artifacts; None where it is not on this machine."""
    parts = urlsplit(location)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


@dataclass(frozen=True)
class Misplaced:
    """An experiment whose artifacts MLflow looks for where another root was."""

    experiment: Any  # id
    location: str  # that is noted
    old_root: Path
    folder: Path  # where they belong
    root: Path


def misplaced(uri: str, root: Path, own: bool) -> list[Misplaced]:
    """The experiments whose artifacts are noted below another root; none of a database that MLflow has yet to fill.

    `own` is whether the database is this root's. Another one is shared, and most roots of its experiments are not on
    this machine: of those, the ones whose artifacts this root holds.
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
    """Notes the right places, of the experiments and of all of their runs, and of the checkpoints in the store."""
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
