"""The command line as users start it: alone or under torchrun, and killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path


def command(processes: int, *arguments: str) -> list[str]:
    """`python -m ear ...`, by torchrun for more than one process."""
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m"]
    return [sys.executable, "-m", *(torchrun if processes > 1 else []), "ear", *arguments]


def run(processes: int, *arguments: str, timeout: int = 300, code: int = 0) -> str:
    """What it prints on stdout, or on stderr where it is to fail with this exit code."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command(processes, *arguments), capture_output=True, text=True, timeout=timeout, env=environment
    )
    assert done.returncode == code, done.stderr
    return done.stderr if code else done.stdout


def kill_when(is_time: Callable[[], bool], processes: int, *arguments: str) -> None:
    """Starts it, and kills one of its working processes with -9 at the moment; it has to fail."""
    victim = subprocess.Popen(
        command(processes, *arguments),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    try:
        deadline = time.monotonic() + 120
        while not is_time():
            assert time.monotonic() < deadline, "it took too long"
            assert victim.poll() is None, "it ended before it could be killed"
            time.sleep(0.02)
        os.kill(_last_worker(victim.pid) if processes > 1 else victim.pid, signal.SIGKILL)
        victim.wait(timeout=120)
    finally:
        if victim.poll() is None:
            os.killpg(victim.pid, signal.SIGKILL)
    assert victim.returncode != 0


def _last_worker(launcher: int) -> int:
    """The process id of torchrun's last worker."""
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    return [int(pid) for pid in children if "-m\0ear\0" in Path(f"/proc/{pid}/cmdline").read_text()][-1]
