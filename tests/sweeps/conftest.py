"""What several tests of this folder need."""

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_once import made_once
from sqlalchemy import event
from sqlalchemy.engine import Engine

from sweeps.driver import scheduler as work
from sweeps.tracking.mlflow_client import open_client


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulated drivers look again at once at what another one works on."""
    monkeypatch.setattr(work, "RETRY_SECONDS", 0.0)


@pytest.fixture(autouse=True, scope="session")
def _databases_do_not_wait_for_the_disk() -> Iterator[None]:
    """Nor files: tests/conftest.py."""

    def connected(connection: object, _: object) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.execute("PRAGMA synchronous = OFF")

    event.listen(Engine, "connect", connected)
    yield
    event.remove(Engine, "connect", connected)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As MLflow makes it for the first sweep of a root, in seconds. Not to be changed."""
    return made_once("mlflow", open_client, tmp_path_factory) / "mlflow.db"


@pytest.fixture
def database(empty_database: Path, tmp_path: Path) -> None:
    """`tmp_path` is a root that has MLflow's database already."""
    shutil.copy(empty_database, tmp_path / "mlflow.db")
