"""Temporary folders, which hold secrets, go with their process."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from ear.temporary import ALIVE, SETTLED_SECONDS, temporary_folder

HOLD = """
import time
from ear.temporary import temporary_folder
with temporary_folder() as folder:
    print(folder, flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def own_temporary_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)


def test_a_killed_process_s_folder_goes_when_the_next_one_starts(tmp_path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    left = Path(other.stdout.readline().strip())
    assert left.parent == tmp_path
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
