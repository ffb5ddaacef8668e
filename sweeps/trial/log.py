"""A trial's output, its libraries' and its native code's included, goes to a file of its own."""

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path


@contextmanager
def output_to(path: Path) -> Iterator[None]:
    """Appends stdout and stderr to the file, at the level of file descriptors; puts up with a disk that is full."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    except OSError:  # a log is worth no training
        log = os.open(os.devnull, os.O_WRONLY)
    kept = {number: os.dup(number) for number in (1, 2)}
    try:
        for number in kept:
            os.dup2(log, number)
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:
                continue
        for number, original in kept.items():
            os.dup2(original, number)
            os.close(original)
        os.close(log)


def say(what: str) -> None:
    """A line in the trial's log, written at once: several processes may write there."""
    print(f"{datetime.now():%Y-%m-%d %H:%M:%S}  {what}\n", end="", flush=True)


def this_node() -> str:
    """The node, and the GPUs that this process may use, for a log."""
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES")
    return (os.environ.get("SLURMD_NODENAME") or socket.gethostname()) + (f", GPU {gpus}" if gpus else "")
