"""Graceful interruption: the first Ctrl-C stops at the next good moment, the second at once."""

import ctypes
import os
import signal
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

STOPS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)  # a stop, a queue's warning, a closed terminal
SIGNALS = (signal.SIGINT, *STOPS)  # SIGINT is Ctrl-C

PR_SET_PDEATHSIG = 1  # of Linux's prctl


class StoppedError(Exception):
    """A stop was requested during work that the next call continues."""


def end_with_parent(by: signal.Signals = signal.SIGKILL) -> None:
    """Make the kernel send this process a signal as soon as its parent ends, in any way. Works only on Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, by)


@contextmanager
def on_interrupt(ask: Callable[[], None]) -> Iterator[None]:
    """Within this context, the first SIGINT, SIGTERM, SIGUSR1 or SIGHUP calls `ask` instead of interrupting.

    If SIGHUP is ignored, as with `nohup`, it stays ignored.
    """

    def handle(received: int, _frame: FrameType | None) -> None:
        if received == signal.SIGHUP:
            leave_terminal()
        for number in STOPS:  # a job's processes may get a signal twice
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        ask()
        print("Stopping soon and saving progress; press Ctrl-C again to stop at once.", file=sys.stderr)

    unwanted = {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else set()
    previous = {number: signal.signal(number, handle) for number in SIGNALS if number not in unwanted}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def leave_terminal() -> None:
    """Discard all further output to the terminal. Printing to a closed terminal would be an error."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for output in (1, 2):
        with suppress(OSError):  # closed
            if stat.S_ISCHR(os.fstat(output).st_mode):
                os.dup2(nowhere, output)
    os.close(nowhere)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Within this context SIGTERM, SIGUSR1 and SIGHUP are ignored, since the process is about to end anyway."""
    previous = {number: signal.signal(number, signal.SIG_IGN) for number in STOPS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
