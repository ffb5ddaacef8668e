"""Where runs are tracked: an output root that was moved, is read-only or has an odd name, and MLFLOW_TRACKING_URI."""

import re
import shutil
import sqlite3
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.tracking._tracking_service import utils
from tracked import assert_whole, children, finished_plan, local_client

from ear.errors import UserError
from ear.store import Store
from sweeps.spec.plan import Plan
from sweeps.tracking import mlflow_database
from sweeps.tracking import tracker as tracking
from sweeps.tracking.mlflow_client import VARIABLE, DatabaseLockedError, in_a_line, open_client, tracking_uri
from sweeps.tracking.mlflow_database import artifact_folder, local_folder, sqlite_file, sqlite_uri
from sweeps.tracking.tracker import Tracker


@pytest.fixture(scope="module")
def made(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Plan]]:
    """A root whose finished sweep is in MLflow; it takes seconds, so that tests get copies."""
    root = tmp_path_factory.mktemp("made")
    shutil.copy(empty_database, root / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(VARIABLE, raising=False)
        plan = finished_plan(root, patch)
        project(root, plan)
        yield root, plan


def project(root: Path, plan: Plan) -> None:
    tracker = Tracker(plan.identity, Store(root), root)
    for run in plan.runs:
        tracker.finish(run, {})
    assert tracker.close(complete=True)


def moved(made: tuple[Path, Plan], root: Path) -> Plan:
    """The sweep in another root, while the one that it was made in is still there."""
    shutil.copytree(made[0], root)
    utils._artifact_repos_cache.clear()  # MLflow remembers where a run's artifacts are: here there are copies of it
    return made[1]


def places(client: Any) -> set[Path]:
    """The folders that MLflow looks for artifacts in, for the experiment and for its runs."""
    experiment = client.get_experiment_by_name("tracked")
    folders = [local_folder(run.info.artifact_uri) for run in client.search_runs([experiment.experiment_id])]
    of_all = local_folder(experiment.artifact_location)
    assert of_all is not None
    return {folder.parents[1] for folder in folders if folder is not None} | {of_all}


def test_a_moved_root_is_read_where_it_is_and_put_right_by_the_next_sweep(
    made: tuple[Path, Plan], tmp_path: Path
) -> None:
    root = tmp_path / "moved"
    plan = moved(made, root)
    before = (root / "mlflow.db").read_bytes()
    client = open_client(root, reading=True)
    assert places(client) == {artifact_folder(root, "tracked")}
    assert (root / "mlflow.db").read_bytes() == before  # whoever looks changes nothing
    copy = sqlite_file(client.tracking_uri)
    assert copy is not None
    assert copy.exists()
    del client
    assert not copy.parent.exists()
    project(root, plan)
    assert places(local_client(root)) == {artifact_folder(root, "tracked")}
    assert open_client(root, reading=True).tracking_uri == sqlite_uri(root / "mlflow.db")
    assert_whole(local_client(root), plan)
    checkpoints = [run.data.tags["ear.checkpoint"] for run in children(local_client(root)).values()]
    assert {Path(each).parents[1] for each in checkpoints} == {root / "store"}


def test_artifacts_that_are_gone_are_filled_in_once(made: tuple[Path, Plan], tmp_path: Path) -> None:
    root = tmp_path / "lost"
    plan = moved(made, root)
    folders = sorted(artifact_folder(root, "tracked").glob("*/artifacts"))
    whole = {path.relative_to(root) for folder in folders for path in folder.rglob("*")}
    for folder in folders[:2]:
        shutil.rmtree(folder)
    lost = next(path for folder in folders[2:] for path in folder.glob("samples.png"))
    lost.unlink()
    kept = {path: path.stat().st_mtime_ns for folder in folders for path in folder.rglob("samples*.png")}
    project(root, plan)
    assert {path.relative_to(root) for folder in folders for path in folder.rglob("*")} == whole
    assert all(path.stat().st_mtime_ns == then for path, then in kept.items())
    assert_whole(local_client(root), plan)


@pytest.mark.parametrize("name", ["a%20b", "a?b", "a b#c", "ä%"])
def test_a_root_of_any_name(name: str, made: tuple[Path, Plan], tmp_path: Path) -> None:
    root = tmp_path / name
    plan = moved(made, root)
    project(root, plan)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert sqlite_file(tracking_uri(root)) == root / "mlflow.db"
    client = open_client(root, reading=True)
    assert_whole(client, plan)
    assert places(client) == {artifact_folder(root, "tracked")}


def test_a_database_of_the_user_s_has_its_artifacts_below_the_root(
    made: tuple[Path, Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, caller = tmp_path / "root", tmp_path / "caller"
    plan = moved(made, root)
    caller.mkdir()
    monkeypatch.chdir(caller)
    (root / "mlflow.db").rename(tmp_path / "mine.db")
    with closing(sqlite3.connect(tmp_path / "mine.db")) as database, database:
        database.execute("UPDATE experiments SET name = 'another' WHERE name = 'tracked'")
    monkeypatch.setenv(VARIABLE, f"sqlite:///{tmp_path / 'mine.db'}")
    project(root, plan)
    assert_whole(mlflow.MlflowClient(tracking_uri(root)), plan)
    assert places(open_client(root, reading=True)) == {artifact_folder(root, "tracked")}
    monkeypatch.setenv(VARIABLE, "")
    assert tracking_uri(root) == f"sqlite:///{root / 'mlflow.db'}"
    project(root, plan)
    assert_whole(local_client(root), plan)
    assert list(caller.iterdir()) == []


@pytest.mark.parametrize("empty", [False, True])
def test_a_new_database_of_the_user_s_is_filled(empty: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if empty:
        (tmp_path / "new.db").touch()
    monkeypatch.setenv(VARIABLE, f"sqlite:///{tmp_path / 'new.db'}")
    with pytest.raises(UserError, match=r"No sweep has been run under .*new\.db \(MLFLOW_TRACKING_URI\)"):
        open_client(tmp_path, reading=True)
    assert [each.name for each in open_client(tmp_path).search_experiments()] == ["Default"]


def test_in_a_shared_database_a_sweep_moves_itself_alone(
    made: tuple[Path, Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, gone = tmp_path / "root", Path("/home/colleague/runs")
    moved(made, root)
    (root / "mlflow.db").rename(tmp_path / "shared.db")
    uri = f"sqlite:///{tmp_path / 'shared.db'}"
    monkeypatch.setenv(VARIABLE, uri)
    client = mlflow.MlflowClient(uri)
    for name in ("alpha", "beta", "gamma"):  # of roots that are not on this machine
        experiment = client.create_experiment(name, artifact_folder(gone, name).as_uri())
        client.create_run(experiment, tags={"ear.checkpoint": f"{gone}/store/key/checkpoint"})
    artifact_folder(root, "beta").mkdir()
    (root / "alpha").mkdir()  # a driver makes it first of all, of a sweep that a colleague named alike too

    def roots(client: Any) -> dict[str, set[Path]]:
        """Where the artifacts and the checkpoint of each are."""
        found = {}
        for name in ("alpha", "beta", "gamma"):
            experiment = client.get_experiment_by_name(name)
            (run,) = client.search_runs([experiment.experiment_id])
            folders = local_folder(experiment.artifact_location), local_folder(run.info.artifact_uri)
            checkpoint = Path(run.data.tags["ear.checkpoint"])
            found[name] = {folders[0].parents[1], folders[1].parents[3], checkpoint.parents[2]}  # type: ignore[union-attr]
        return found

    as_noted = {name: {gone} for name in ("alpha", "beta", "gamma")}
    for sweep in ("alpha", "gamma", "tracked", None):
        open_client(root, sweep=sweep)
        assert roots(client) == as_noted
    assert roots(open_client(root, reading=True)) == as_noted | {"beta": {root}}
    assert roots(client) == as_noted
    open_client(root, sweep="beta")
    assert roots(client) == as_noted | {"beta": {root}}


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("localhost:5000", "set it to a server such as http://localhost:5000 or a database"),
        ("./mlruns", "set it to a server such as http://HOST:PORT or a database such as sqlite:////FOLDER/FILE.db"),
        ("file:///mlruns", "MLflow can't track runs"),
        ("postgresql+nodriver://u:secret@h/x", r"u:\*\*\*@h/x \(MLFLOW_TRACKING_URI\) can't be used"),
        ("http://u:secret@127.0.0.1:9", r"server http://u:\*\*\*@127.0.0.1:9 \(MLFLOW_TRACKING_URI\) can't be reached"),
        (
            "http://s3cret-token@127.0.0.1:9",
            r"server http://\*\*\*@127.0.0.1:9 \(MLFLOW_TRACKING_URI\) can't be reached",
        ),
        ("postgresql+nodriver://h/x?password=secret", r"h/x\?password=\*\*\* \(MLFLOW_TRACKING_URI\) can't be used"),
        ("u:secret@h", r"MLFLOW_TRACKING_URI is 'u:\*\*\*@h', where MLflow can't track"),
        ("sqlite:////proc/no/such.db", r"MLFLOW_TRACKING_URI.* can't be used: unable to open"),
    ],
)
def test_what_can_not_be_tracked_in_is_named_with_its_variable(
    uri: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, uri)
    with pytest.raises(UserError, match=words) as refused:
        open_client(tmp_path)
    assert "damaged" not in str(refused.value)
    assert "unset that variable" in str(refused.value)
    assert not {"secret", "s3cret"} & set(re.findall(r"\w+", str(refused.value)))


def test_what_a_record_was_refused_for_is_said_without_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "http://u:secret@h")
    error = RuntimeError("API request to http://u:secret@h/api failed, Basic dTpzZWNyZXQ=\nTraceback")
    assert in_a_line(error) == "API request to http://u:***@h/api failed, Basic ***"
    assert in_a_line(RuntimeError()) == "RuntimeError"


def test_a_locked_database_is_called_that_and_waited_for(
    made: tuple[Path, Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow_database, "SECONDS_OF_A_LOCK", 0.05)
    monkeypatch.setattr(tracking, "LONGEST_PAUSE", 0.1)
    root = tmp_path / "locked"
    plan = moved(made, root)
    other = sqlite3.connect(root / "mlflow.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(DatabaseLockedError, match="is locked by another program"):
        open_client(root, reading=True)
    with pytest.warns(UserWarning, match=r"locked by another program.*The sweep runs meanwhile"):
        tracker = Tracker(plan.identity, Store(root), root)
    for run in plan.runs:
        tracker.finish(run, {})
    threading.Timer(1.0, other.close).start()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert tracker.close(complete=True, patience=0.0)  # which is that with a server
    assert_whole(local_client(root), plan)


def test_a_damaged_database_is_called_that(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("no database at all" * 100)
    started = time.monotonic()
    with pytest.raises(UserError, match=r"can't be used: file is not a database\. If it is damaged, move it away"):
        open_client(tmp_path)
    assert time.monotonic() - started < 30  # MLflow itself tries for minutes
