"""Signals that ask for an end: a terminal that is closed is one of them, and not one under nohup."""

import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from ear.process.interrupt import SIGNALS, on_interrupt, undisturbed

# Prints all the time, as a driver's table does; saves when it is asked to end.
SAVES = """
import sys, time
from pathlib import Path
from ear.process.interrupt import on_interrupt
asked = []
with on_interrupt(lambda: asked.append(1)):
    print("at work", flush=True)
    while not asked:
        time.sleep(0.01)
    for _ in range(3):
        print("saving", flush=True)
        print("saving", file=sys.stderr, flush=True)
    Path(sys.argv[1]).write_text("saved")
"""


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [number for number in SIGNALS if number != signal.SIGHUP])
def test_each_asks_once(number: signal.Signals) -> None:
    asked: list[int] = []
    with on_interrupt(lambda: asked.append(1)):
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), signal.SIGTERM)  # a job's processes may get one twice
    assert asked == [1]


def test_nohup_stays_in_force() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    asked: list[int] = []
    with on_interrupt(lambda: asked.append(1)):
        os.kill(os.getpid(), signal.SIGHUP)
    assert asked == []
    with undisturbed():
        os.kill(os.getpid(), signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def take_terminal() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # these tests may run under nohup themselves
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_a_terminal_that_is_closed_asks_to_save_and_breaks_no_output(tmp_path: Path) -> None:
    ours, its = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", SAVES, str(tmp_path / "file")],
        stdin=its,
        stdout=its,
        stderr=its,
        start_new_session=True,
        preexec_fn=take_terminal,
    )
    os.close(its)
    assert os.read(ours, 7) == b"at work"
    os.close(ours)
    assert process.wait(timeout=30) == 0
    assert (tmp_path / "file").read_text() == "saved"
