"""Temporary folders, which hold secrets, go with their process."""

import multiprocessing.process
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ear import temporary
from ear.errors import UserError
from ear.temporary import ALIVE, SETTLED_SECONDS, shorten_workers_sockets, temporary_folder

HOLD = """
import time
from ear.temporary import temporary_folder
with temporary_folder() as folder:
    print(folder, flush=True)
    time.sleep(60)
"""


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
    minutes_ago = time.time() - 2 * SETTLED_SECONDS
    os.utime(left / ALIVE, (minutes_ago, minutes_ago))
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
        sockets = folder / "session_2026-11-26_12-00-00_123456_1234567" / "sockets"
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
    with pytest.raises(UserError, match=f"TMPDIR, {long}, is too long.*at most 26 bytes"), temporary_folder():
        pass
