"""An output root on a read-only disk, an archive or somebody else's: whoever looks at it is shown it all."""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import optuna
import pytest
import typer
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from tracked import finished_plan

from analysis.report import write_report
from ear.cli.store import list_, verify
from ear.errors import UserError
from ear.store import Store
from sweeps.cli import plan as show_plan
from sweeps.cli import status as show_status
from sweeps.driver.progress_table import ProgressTable
from sweeps.driver.running_driver import RunningDriver
from sweeps.driver.sweep_folder import SweepFolder
from sweeps.driver.task_progress import Counts
from sweeps.search.study_summary import load_study
from sweeps.spec.plan import Plan
from sweeps.tracking.tracker import Tracker


@pytest.fixture(scope="module")
def archive(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Plan]]:
    """A finished sweep, copied to a disk of its own that is then made read-only."""
    root, disk = tmp_path_factory.mktemp("made"), tmp_path_factory.mktemp("disk")
    shutil.copy(empty_database, root / "mlflow.db")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("MLFLOW_TRACKING_URI", raising=False)
            plan = finished_plan(root, patch)
            for image in (root / "store").glob("*/samples*.png"):
                plt.imsave(image, np.zeros((4, 4, 3)))
            tracker = Tracker(plan.identity, Store(root), root)
            for run in plan.runs:
                tracker.finish(run, {})
            assert tracker.close(complete=True)
        with RunningDriver(SweepFolder(root, "tracked")).opened() as driver:
            driver.write(ProgressTable("tracked", 1, lambda: Counts(0, 0, 0, 0, "")))
            shutil.copytree(root, disk / "runs")  # as a driver that was killed leaves it
        journal = JournalFileBackend(str(disk / "runs" / "tracked" / "study.journal"))
        optuna.create_study(study_name="tracked", storage=JournalStorage(journal))
        shutil.rmtree(root / "mlartifacts")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        yield disk / "runs", plan
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_plan_and_status(archive: tuple[Path, Plan], capsys: pytest.CaptureFixture[str]) -> None:
    root, plan = archive
    show_plan(plan.source, root=root, as_json=True)
    assert {run["state"] for run in json.loads(capsys.readouterr().out)["run_list"]} == {"evaluated"}
    show_status(plan.source, root=root, as_json=True)
    said = json.loads(capsys.readouterr().out)
    assert (said["runs"], said["drivers"]) == ({"evaluated": 4}, [])
    assert load_study("tracked", root / "tracked") is not None


def test_the_store_is_listed_and_verified(archive: tuple[Path, Plan], capsys: pytest.CaptureFixture[str]) -> None:
    root, plan = archive
    list_(everything=True, root=root, as_json=True)
    assert {run.keys.evaluation for run in plan.runs} < {each["key"] for each in json.loads(capsys.readouterr().out)}
    with pytest.raises(typer.Exit):  # the samples were put there afterwards
        verify(root=root, as_json=True)
    said = json.loads(capsys.readouterr().out)
    assert said["unverifiable"] + len(said["unpublished"]) == len(plan.tree.nodes) + len(plan.runs)


def test_a_report_is_written_elsewhere(archive: tuple[Path, Plan]) -> None:
    root, _ = archive
    report = write_report("tracked", root)
    try:
        assert not report.folder.is_relative_to(root)
        assert {path for path in report.folder.rglob("*") if path.is_file()} == set(report.files)
        assert "20.00" in report.table
    finally:
        shutil.rmtree(report.folder)


def test_whoever_writes_is_refused(archive: tuple[Path, Plan]) -> None:
    root, plan = archive
    with pytest.raises(UserError, match="Read-only file system"):
        Store(root)
    with (
        pytest.raises(UserError, match="Read-only file system"),
        RunningDriver(SweepFolder(root, plan.sweep.name)).opened(),
    ):
        pass


def test_a_root_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    store = Store(tmp_path / "none", reading=True)
    assert (store.published(), "0" * 32 in store) == (set(), False)
    assert not (tmp_path / "none").exists()


def test_a_living_driver_is_seen_without_writing(tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path, "s")
    with RunningDriver(folder).opened() as driver:
        driver.write(ProgressTable("s", 1, lambda: Counts(0, 0, 0, 0, "")))
        before = {path: path.stat().st_mtime_ns for path in folder.path.rglob("*")}
        time.sleep(0.01)
        assert [driver.pid for driver in folder.running()]
        assert {path: path.stat().st_mtime_ns for path in folder.path.rglob("*")} == before
    assert folder.running() == []
