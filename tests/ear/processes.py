"""The command line in processes: of a server that has imported torch already; or as users start it, alone or under
torchrun, and killed."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

SERVER = multiprocessing.get_context("forkserver")
"""Its processes begin with everything imported, where a new Python takes seconds, and with nothing else of ours."""
SERVER.set_forkserver_preload(["ear.cli", "ear.run", "ear.evaluation.evaluate", "ear.data.encode", "sklearn.datasets"])


def together(count: int, *arguments: str, code: int = 0) -> str:
    """What the main one of several processes prints, connected as torchrun's are; on stderr where all are to fail."""
    with TemporaryDirectory() as folder:
        group = [SERVER.Process(target=take_part, args=(rank, count, Path(folder), arguments)) for rank in range(count)]
        try:
            for process in group:
                process.start()
            for process in group:
                process.join(900)
        finally:
            for process in group:
                process.kill()
        answers = [json.loads((Path(folder) / str(rank)).read_text()) for rank in range(count)]
    assert [given["code"] for given in answers] == [code] * count, answers
    return str(answers[0]["stderr" if code else "stdout"])


def take_part(rank: int, count: int, folder: Path, arguments: tuple[str, ...]) -> None:
    from in_process import answer

    own = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "EAR_MEETING_FILE": folder / "meeting"}
    os.environ |= {name: str(value) for name, value in own.items()}
    (folder / str(rank)).write_text(json.dumps(vars(answer(*arguments))))


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
