"""Ctrl-C as a wish to stop at the next good moment, a second one stops at once; processes that end with another."""

import ctypes
import os
import signal
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

STOPS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)  # a stop, a queue's warning, a terminal that is closed
SIGNALS = (signal.SIGINT, *STOPS)  # and Ctrl-C

PR_SET_PDEATHSIG = 1  # of Linux's prctl


class StoppedError(Exception):
    """A stop was asked for in the middle of what the next call goes on with."""


def end_with_parent() -> None:
    """Has this process killed as soon as its parent is gone, however that ended; does nothing but on Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@contextmanager
def on_interrupt(ask: Callable[[], None]) -> Iterator[None]:
    """Within it, the first SIGINT, SIGTERM, SIGUSR1 or SIGHUP calls `ask` instead of interrupting.

    A SIGHUP that is ignored, as by `nohup`, stays so.
    """

    def handle(received: int, _frame: FrameType | None) -> None:
        if received == signal.SIGHUP:
            leave_terminal()
        for number in STOPS:  # a job's processes may get one twice
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        ask()
        print("Stopping at the next good moment and keeping what is done; Ctrl-C again stops at once.", file=sys.stderr)

    unwanted = {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else set()
    previous = {number: signal.signal(number, handle) for number in SIGNALS if number not in unwanted}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def leave_terminal() -> None:
    """Sends what is still printed to nowhere: on a terminal that is gone it would be an error, which ends all."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for output in (1, 2):
        with suppress(OSError):  # closed
            if stat.S_ISCHR(os.fstat(output).st_mode):
                os.dup2(nowhere, output)
    os.close(nowhere)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Within it SIGTERM, SIGUSR1 and SIGHUP are ignored, since the process is about to end anyway."""
    previous = {number: signal.signal(number, signal.SIG_IGN) for number in STOPS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
