"""What drivers leave in the sweep's folder, and what they make of one another's."""

import errno
import json
import os
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from in_process import ear

from ear.errors import UserError
from slurm.allocation import LAST_STOP
from slurm.stop_requests import last_stop
from sweeps.driver.running_driver import RunningDriver
from sweeps.driver.sweep_folder import SweepFolder

DRIVER = """
import sys
from pathlib import Path
from sweeps.driver.task_progress import Counts
from sweeps.driver.progress_table import ProgressTable
from sweeps.driver.running_driver import RunningDriver
from sweeps.driver.sweep_folder import SweepFolder
with RunningDriver(SweepFolder(Path(sys.argv[1]), "s")).opened() as driver:
    driver.write(ProgressTable("s", 1, lambda: Counts(0, 0, 0, 0, "")))
    print("at work", flush=True)
    sys.stdin.read()
"""


def test_a_driver_knows_whether_another_one_lives(tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path, "s")
    with RunningDriver(folder).opened() as driver:
        own = {"host": socket.gethostname(), "pid": os.getpid(), "started": "", "updated": "", "summary": ""}
        (folder.drivers / f"{own['host']}-{own['pid']}.json").write_text(json.dumps({**own, "rows": []}))
        assert len(folder.running()) == 1
        assert not driver.others_running()
        other = subprocess.Popen(
            [sys.executable, "-c", DRIVER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert other.stdout is not None
        assert other.stdout.readline() == "at work\n"
        assert driver.others_running()
        other.kill()
        other.communicate()
        assert not driver.others_running()


@pytest.mark.parametrize("minutes", [-10, 0, 10])
def test_a_stop_reaches_exactly_those_that_began_before_it_whatever_the_clocks_say(
    minutes: int, tmp_path: Path
) -> None:
    """The machine that asks, or the file server, has a clock of its own."""
    folder = SweepFolder(tmp_path, "s")
    before = RunningDriver(folder)
    assert not before.stop_requested()
    ask_to_stop(folder, time.time() + 60 * minutes)
    assert before.stop_requested()
    after = RunningDriver(folder)
    assert not after.stop_requested()
    ask_to_stop(folder, time.time() + 60 * minutes)
    assert after.stop_requested()


def test_two_requests_in_the_same_tick_of_a_file_system_are_two(tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path, "s")
    ask_to_stop(folder, 1e9)
    between = RunningDriver(folder)
    ask_to_stop(folder, 1e9)
    assert between.stop_requested()


def test_a_stop_can_be_read_by_other_users_drivers(tmp_path: Path) -> None:
    folder, before = SweepFolder(tmp_path, "s"), os.umask(0o077)
    try:
        folder.request_stop()
    finally:
        os.umask(before)
    assert stat.filemode((folder.path / "stop").stat().st_mode) == "-rw-r--r--"
    assert [path.name for path in folder.path.iterdir()] == ["stop"]


@pytest.fixture
def unreadable(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of files that can't be read, whoever asks: tests may be root's."""
    names: list[str] = []
    read = Path.read_text

    def read_text(path: Path, *arguments: Any, **named: Any) -> str:
        if path.name in names:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(path))
        return read(path, *arguments, **named)

    monkeypatch.setattr(Path, "read_text", read_text)
    return names


def test_a_stop_that_can_t_be_read_is_one_all_the_same(tmp_path: Path, unreadable: list[str]) -> None:
    """As another user's, of a version that left it to his umask."""
    folder = SweepFolder(tmp_path, "s")
    unreadable.append("stop")
    before = RunningDriver(folder)
    assert not before.stop_requested()
    ask_to_stop(folder, 1e9)
    assert before.stop_requested()
    after = RunningDriver(folder)
    assert not after.stop_requested()
    ask_to_stop(folder, 1e9 + 1)
    assert after.stop_requested()


@pytest.mark.parametrize("first", ["readable", "unreadable"])
def test_a_stop_that_can_be_read_now_and_then_is_one_stop(first: str, tmp_path: Path, unreadable: list[str]) -> None:
    """A network file system calls a file stale that was replaced."""
    folder = SweepFolder(tmp_path, "s")
    folder.request_stop()
    if first == "unreadable":
        unreadable.append("stop")
    driver = RunningDriver(folder)
    for _ in range(2):
        assert not driver.stop_requested()
        if unreadable:
            unreadable.clear()
        else:
            unreadable.append("stop")
    assert not driver.stop_requested()
    unreadable.clear()
    folder.request_stop()
    assert driver.stop_requested()


def test_a_file_server_that_is_away_for_a_moment_stops_no_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = SweepFolder(tmp_path, "s")
    folder.request_stop()
    driver = RunningDriver(folder)

    def away(path: Path, **_: Any) -> os.stat_result:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", away)
        assert not driver.stop_requested()
        with pytest.raises(UserError, match="stop can't be checked"):
            RunningDriver(folder)
    assert not driver.stop_requested()


def test_a_stop_reaches_jobs_submitted_before_it_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = SweepFolder(tmp_path, "s")
    early = last_stop(folder.path, afresh=True)
    folder.request_stop()
    assert not RunningDriver(folder).stop_requested()  # begun after it, by hand
    monkeypatch.setenv(LAST_STOP, early)
    assert RunningDriver(folder).stop_requested()
    monkeypatch.setenv(LAST_STOP, last_stop(folder.path, afresh=True))
    assert not RunningDriver(folder).stop_requested()  # submitted again after it


def test_a_stop_reaches_drivers_that_are_not_seen_from_here(tmp_path: Path) -> None:
    """One that is only starting, one in a queue, one on a machine whose locks a network file system doesn't show."""
    sweep = tmp_path / "s.yaml"
    sweep.write_text("name: s\nspace: {scoring.alpha: [1.0, 1.5]}\n")
    driver = RunningDriver(SweepFolder(tmp_path, "s"))
    told = ear("sweep", "stop", sweep, "--root", tmp_path).stdout
    assert told == (
        "No running driver of s is visible from here. Drivers that are starting, queued or on other machines were "
        "asked to stop.\n"
    )
    assert driver.stop_requested()


def test_nothing_is_made_where_no_sweep_can_run(tmp_path: Path) -> None:
    sweep = tmp_path / "s.yaml"
    sweep.write_text("name: s\nspace: {scoring.alpha: [1.0, 1.5]}\n")
    told = ear("sweep", "stop", sweep, "--root", tmp_path / "misspelt", code=2).stderr
    assert f"There is no folder {tmp_path / 'misspelt'}" in told
    assert not (tmp_path / "misspelt").exists()


def ask_to_stop(folder: SweepFolder, at: float) -> None:
    """As the file server's clock would date it."""
    folder.request_stop()
    os.utime(folder.path / "stop", (at, at))


def test_failures_outlive_their_driver_until_they_are_tried_again(tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path, "s")
    with RunningDriver(folder).opened() as driver:
        driver.fail("alpha=1.0", "node", ["run"], "Traceback\n" + "\n".join(f"line {number}" for number in range(20)))
    (failure,) = folder.failures()
    assert (failure.label, failure.runs) == ("alpha=1.0", ["run"])
    assert failure.last_lines == [f"line {number}" for number in range(15, 20)]
    with RunningDriver(folder).opened() as driver:
        driver.begin("another node")
        assert len(folder.failures()) == 1
        driver.begin("node")
        assert folder.failures() == []
