"""Processes that this one starts: which signals reach them, and killing those that were left behind."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def signals_kept_from_children(*, all_of_a_job: bool = True) -> Iterator[None]:
    """Block signals in the processes that are started in this context: SIGHUP, which a closing terminal sends, and
    with `all_of_a_job` also SIGTERM, SIGUSR1 and SIGUSR2, which SLURM sends to all processes of a job.

    The processes inherit the signal mask, and none of Ray's processes changes it. Without it, a raylet would exit at
    once and kill its trials before they have saved; the driver ends them when they have.
    """
    blocked = {signal.SIGHUP} | ({signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2} if all_of_a_job else set())
    before = signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def kill_processes_naming(folder: Path) -> None:
    """Kill this user's processes whose command line contains a folder; Ray's processes name their temporary folder."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if process.stat().st_uid == os.getuid() and str(folder) in (process / "cmdline").read_text():
                os.kill(int(process.name), signal.SIGKILL)
        except (OSError, UnicodeDecodeError):
            continue
