"""Redirects a trial's output, including that of libraries and native code, to the trial's log file."""

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path


@contextmanager
def output_to(path: Path) -> Iterator[None]:
    """Appends stdout and stderr to the file, at the level of file descriptors; tolerates a full disk."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    except OSError:  # a missing log must not stop a training
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
    """Prints a time-stamped line in one write, since several processes may share the log."""
    print(f"{datetime.now():%Y-%m-%d %H:%M:%S}  {what}\n", end="", flush=True)


def this_node() -> str:
    """Returns the node's name and the GPUs that this process may use, for a log."""
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES")
    return (os.environ.get("SLURMD_NODENAME") or socket.gethostname()) + (f", GPU {gpus}" if gpus else "")
