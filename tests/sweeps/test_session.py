"""What drivers leave in the sweep's folder, and what they make of one another's."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slurm.allocation import SUBMITTED
from sweeps.session import Session, SweepFolder

DRIVER = """
import sys
from pathlib import Path
from sweeps.board import Board, Counts
from sweeps.session import Session, SweepFolder
with Session(SweepFolder(Path(sys.argv[1]), "s")).opened() as session:
    session.write(Board("s", 1, lambda: Counts(0, 0, 0, 0, "")))
    print("at work", flush=True)
    sys.stdin.read()
"""


def test_a_driver_knows_whether_another_one_lives(tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path, "s")
    with Session(folder).opened() as session:
        own = {"host": socket.gethostname(), "pid": os.getpid(), "started": "", "updated": "", "summary": ""}
        (folder.drivers / f"{own['host']}-{own['pid']}.json").write_text(json.dumps({**own, "rows": []}))
        assert len(folder.running()) == 1
        assert not session.has_company()
        other = subprocess.Popen(
            [sys.executable, "-c", DRIVER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert other.stdout is not None
        assert other.stdout.readline() == "at work\n"
        assert session.has_company()
        other.kill()
        other.communicate()
        assert not session.has_company()


def test_a_stop_reaches_drivers_whose_jobs_were_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = SweepFolder(tmp_path, "s")
    submitted = time.time() - 10
    folder.request_stop()
    time.sleep(0.05)
    assert not Session(folder).stop_requested()  # begun after it, by hand
    monkeypatch.setenv(SUBMITTED, str(submitted))
    assert Session(folder).stop_requested()
    monkeypatch.setenv(SUBMITTED, str(time.time()))
    assert not Session(folder).stop_requested()  # submitted again after it


def test_failures_outlive_their_driver_until_they_are_tried_again(tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path, "s")
    with Session(folder).opened() as session:
        session.fail("alpha=1.0", "node", ["run"], "Traceback\n" + "\n".join(f"line {number}" for number in range(20)))
    (failure,) = folder.failures()
    assert (failure.label, failure.runs) == ("alpha=1.0", ["run"])
    assert failure.last_lines == [f"line {number}" for number in range(15, 20)]
    with Session(folder).opened() as session:
        session.begin("another node")
        assert len(folder.failures()) == 1
        session.begin("node")
        assert folder.failures() == []
