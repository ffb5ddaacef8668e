"""Temporary folders, which hold secrets, go with their process and are closed to other users."""

import multiprocessing.process
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ear.errors import UserError
from ear.files import temporary
from ear.files.temporary import (
    ALIVE,
    OF_RAY,
    SETTLED_SECONDS,
    remove_abandoned,
    shorten_workers_sockets,
    temporary_folder,
)

NOBODY = 65534
HOLD = """
import time
from ear.files.temporary import temporary_folder
with temporary_folder() as folder:
    print(folder, flush=True)
    time.sleep(60)
"""


def make_old(lock: Path) -> None:
    minutes_ago = time.time() - 2 * SETTLED_SECONDS
    os.utime(lock, (minutes_ago, minutes_ago))


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """TMPDIR in which sockets have room."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="t") as folder:
        temporary_directory(folder, monkeypatch)
        yield Path(folder)


def temporary_directory(folder: str | Path, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("TMPDIR", str(folder))
    patch.setattr(tempfile, "tempdir", None)


def test_a_killed_process_s_folder_goes_when_the_next_one_starts(short: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    left = Path(other.stdout.readline().strip())
    assert left.parent == short
    with temporary_folder() as ours:
        assert left.exists()  # its process lives
        assert ours.exists()
    assert not ours.exists()
    other.send_signal(signal.SIGKILL)
    other.wait()
    with temporary_folder():
        assert left.exists()  # it might just be being made
    make_old(left / ALIVE)
    with temporary_folder():
        assert not left.exists()


@pytest.fixture
def long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A TMPDIR of more than 130 characters."""
    folder = tmp_path / ("d" * 130)
    folder.mkdir()
    temporary_directory(folder, monkeypatch)
    return folder


def test_sockets_have_room_where_tmpdir_is_long(long: Path) -> None:
    with temporary_folder() as folder:
        sockets = folder / OF_RAY / "session_2026-11-26_12-00-00_123456_1234567" / "sockets"
        sockets.mkdir(parents=True)
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(sockets / "plasma_store"))
    assert not folder.exists()
    assert list(long.iterdir()) == []


def test_workers_sockets_have_room_where_tmpdir_is_long(long: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiprocessing.process.current_process(), "_config", {})
    shorten_workers_sockets()
    assert tempfile.gettempdir() == str(long)  # of other files
    folder = Path(multiprocessing.util.get_temp_dir())
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(folder / "listener-12345678"))


def test_a_tmpdir_without_room_for_sockets_is_named(long: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(temporary, "ELSEWHERE", ("/no", "/nowhere"))
    with pytest.raises(UserError, match=rf"{long} \(its path is too long.*at most 24 bytes"), temporary_folder():
        pass


@pytest.fixture
def as_root() -> None:
    """Who can make what is another user's."""
    if os.getuid() != 0:
        pytest.skip("another user's folder takes root to make")


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    """A folder of the user's, whose file would pass for an abandoned folder's."""
    folder = tmp_path / "precious"
    folder.mkdir()
    (folder / ALIVE).write_text("a thesis")
    make_old(folder / ALIVE)
    return folder


def test_what_others_plant_leads_to_nothing_of_ours(short: Path, precious: Path) -> None:
    """Each passes for an abandoned folder of this user's, since its file is."""
    (short / "ear-of-a-link").symlink_to(precious)
    for name in ("symbolic", "hard", "fifo"):
        (short / f"ear-{name}").mkdir()
    (short / "ear-symbolic" / ALIVE).symlink_to(precious / ALIVE)
    os.link(precious / ALIVE, short / "ear-hard" / ALIVE)
    os.mkfifo(short / "ear-fifo" / ALIVE)
    make_old(short / "ear-fifo" / ALIVE)
    (short / "ear-hard" / "more").symlink_to(precious)
    remove_abandoned(short)
    assert (precious / ALIVE).read_text() == "a thesis"


@pytest.mark.usefixtures("as_root")
def test_another_user_s_folder_is_left_alone(short: Path) -> None:
    for owner in (os.getuid(), NOBODY):
        folder = short / f"ear-{owner}"
        folder.mkdir()
        (folder / ALIVE).touch()
        make_old(folder / ALIVE)
        os.chown(folder, owner, -1)
    remove_abandoned(short)
    assert [left.name for left in short.iterdir()] == [f"ear-{NOBODY}"]


@pytest.mark.usefixtures("short")
def test_it_is_closed_to_others_whatever_is_made_in_it() -> None:
    with temporary_folder() as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_tmpdir_that_is_passed_over_is_named_once(short: Path, recwarn: pytest.WarningsRecorder) -> None:
    """Somebody chose it, perhaps since /tmp is small."""
    temporary._warn.cache_clear()
    short.chmod(0o777)
    for _ in range(2):
        temporary.short_parent(0)
    (warning,) = recwarn
    assert f"{short} can be written by others" in str(warning.message)
    assert "temporary files are in /tmp" in str(warning.message)


def test_a_tmpdir_where_others_can_replace_folders_is_not_used(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (short / "t").mkdir()
    temporary_directory(short / "t", monkeypatch)
    (short / "t").chmod(0o777)
    with temporary_folder() as folder:
        assert folder.parent == Path("/tmp")
    monkeypatch.setattr(temporary, "ELSEWHERE", ())
    with pytest.raises(UserError, match="t can be written by others"), temporary_folder():
        pass
    (short / "t").chmod(0o1777)  # sticky, as /tmp is
    with temporary_folder() as folder:
        assert folder.parent == short / "t"
    short.chmod(0o777)  # above it
    with pytest.raises(UserError, match=f"{short} can be written by others"), temporary_folder():
        pass


@pytest.mark.usefixtures("as_root")
def test_another_user_s_tmpdir_is_not_used(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(temporary, "ELSEWHERE", ())
    os.chown(short, NOBODY, -1)
    with pytest.raises(UserError, match=f"{short} belongs to another user"), temporary_folder():
        pass


def test_a_tmpdir_that_is_a_link_is_followed_once(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (short / "link").symlink_to(short)
    temporary_directory(short / "link", monkeypatch)
    with temporary_folder() as folder:
        assert folder.parent == short
