"""Ctrl-C as a wish to stop at the next good moment, a second one stops at once; processes that end with another."""

import ctypes
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STOPS = (signal.SIGTERM, signal.SIGUSR1)  # a stop, a queue's warning
SIGNALS = (signal.SIGINT, *STOPS)  # and Ctrl-C

PR_SET_PDEATHSIG = 1  # of Linux's prctl


def end_with_parent() -> None:
    """Has this process killed as soon as its parent is gone, however that ended; does nothing but on Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@contextmanager
def on_interrupt(ask: Callable[[], None]) -> Iterator[None]:
    """Within it, the first SIGINT, SIGTERM or SIGUSR1 calls `ask` instead of interrupting."""

    def handle(_number: int, _frame: FrameType | None) -> None:
        for number in STOPS:  # a job's processes may get one twice
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        ask()
        print("Stopping at the next good moment and keeping what is done; Ctrl-C again stops at once.", file=sys.stderr)

    previous = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Within it SIGTERM and SIGUSR1 are ignored, since the process is about to end anyway."""
    previous = {number: signal.signal(number, signal.SIG_IGN) for number in STOPS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
