"""What submitit starts in every task of a job: an `ear` command, kept running until it is done.

A job's first task may be told to make room. By submitit's signal, as a time limit draws near: submitit then calls
`checkpoint`, which lets the command save what it has, and queues the job again. Or by SIGTERM, at a preemption, a
requeue or a cancellation: it is handed on to the command, since where cgroups hold a job together nobody else does.
Whatever else happens to a job, it may be begun any number of times: what is done is in the store, what is half done in
a checkpoint.
"""

import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import submitit
from submitit.core.utils import DelayedSubmission

from ear.errors import UserError
from ear.files.temporary import parents, remove_abandoned
from ear.files.writing import time_in, write_text
from ear.process.code import code_environment
from ear.process.interrupt import end_with_parent
from slurm.allocation import LAST_STOP, NOTHING_READY, SUPERVISED, Allocation
from slurm.attempts import Attempts
from slurm.gang import Gang
from slurm.progress import Progress
from slurm.queue import task_states
from slurm.rendezvous import Rendezvous, first_address, free_port, show_address
from slurm.stopping import STOP, last_stop

Shape = Literal["alone", "gang", "processes"]
"""One task; one task a node, a driver with the first; or one process of a training a task."""

INTERRUPTED = 130  # exit code of a command that saved and stopped, as told to
PORT = "port"  # topic
POLL_SECONDS = 0.2
SECONDS_FOR_OTHERS = 90.0  # to a task that was killed, to have the job queued again before one that failed ends it
SECONDS_TO_MEET = 300.0
SECONDS_BEFORE_ANOTHER_LOOK = 300.0
MARGIN = 10.0  # seconds of the signal's delay that are left for queueing again


class EarJob:
    """Pickled by submitit at submission, and called in every task."""

    def __init__(
        self,
        arguments: list[str],
        shape: Shape,
        folder: Path,
        store: Path,
        cache: Path | None,
        signal_delay: float,
        restarts: int,
        scratch: str | None,
        last_stop: str,
    ) -> None:
        """
        Args:
            arguments: of `ear`.
            folder: shared by the tasks, this submission's own.
            store: where results appear.
            cache: a folder of latents that grows, if that is what the command does.
            signal_delay: seconds between the signal and the time limit.
            restarts: most of them in a row that make no progress.
            scratch: folder on the node for temporary files.
            last_stop: the sweep's last request to stop as this was submitted.
        """
        self.arguments = arguments
        self.shape = shape
        self.folder = folder
        self.store = store
        self.cache = cache
        self.signal_delay = signal_delay
        self.restarts = restarts
        self.scratch = scratch
        self.last_stop = last_stop
        self._command: subprocess.Popen[bytes] | None = None
        self._told_to_end = False

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Knows jobs that an earlier version submitted, which compared a stop's time with that of their submission."""
        if (submitted := state.pop("submitted", None)) is not None:
            state["last_stop"] = stop_before(submitted, state["store"].parent / sweep_of(state["folder"]))
        vars(self).update(state)

    def __call__(self) -> None:
        allocation = Allocation.current()
        assert allocation is not None, "only inside of a job"
        signal.signal(signal.SIGTERM, self._end_command)  # submitit's own handler ignores it
        if self.scratch is not None:
            tempfile.tempdir = os.environ["TMPDIR"] = str(make_scratch(self.scratch))
        try:
            self._run_task(allocation)
        finally:
            for parent in parents():
                remove_abandoned(parent)  # by a command that was killed

    def _run_task(self, allocation: Allocation) -> None:
        board = Rendezvous(self.folder, allocation.job, allocation.restarts)
        match self.shape:
            case "alone":
                self._supervise(allocation, {})
            case "processes":
                self._supervise(allocation, self._meet(allocation, board))
            case "gang":
                gang = Gang(allocation, board)
                if allocation.rank > 0:
                    gang.serve()  # through a SIGTERM too: trials save at the driver's word
                    return
                try:
                    self._supervise(allocation, gang.environment())
                finally:
                    gang.finish()

    def checkpoint(self) -> DelayedSubmission:
        """Called by submitit in its signal handler, in the first task: the command saves and ends."""
        if self._command is not None:
            with suppress(ProcessLookupError):
                self._command.send_signal(signal.SIGTERM)
            self._wait_for_end(self._command.pid, self.signal_delay - MARGIN)
        arguments = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        return DelayedSubmission(EarJob(**arguments))

    def _supervise(self, allocation: Allocation, environment: dict[str, str]) -> None:
        """Runs the command to its end, again where its process was killed; ends the task with its exit code."""
        attempts = Attempts(self.folder / f"attempts-{allocation.job}.json", self.restarts)
        rest = self.folder / f"rest-{allocation.job}"  # made when there was no use in beginning again for a while
        if (left := SECONDS_BEFORE_ANOTHER_LOOK - seconds_since(rest)) > 0:
            self._queue_again(left)  # SLURM forgets a start time that is given while the job is being ended
        while True:
            if allocation.rank == 0:
                attempts.begin(os.environ.get("SLURMD_NODENAME", ""), Progress.of(self.store, self.cache))
            code = self._run(environment)
            if -code in (signal.SIGTERM, signal.SIGINT):  # before it had begun to listen to them
                code = INTERRUPTED
            if code >= 0:
                break
            print(f"The command was killed ({signal.Signals(-code).name}).", file=sys.stderr, flush=True)
            if self.shape == "processes":
                self._queue_again()  # the others can't go on without this one, nor meet once more
        if code == 0:
            return
        if code == NOTHING_READY:
            print("Nothing is ready for this driver: its machine is given back for a while.", flush=True)
            attempts.forget_last()
            write_text(rest, "")
            self._queue_again(SECONDS_BEFORE_ANOTHER_LOOK)
        if code == INTERRUPTED:
            if allocation.rank > 0:
                self._wait_to_be_ended()  # to end now would end the first task as well, which may still be saving
            if is_running(allocation.job):
                self._queue_again()  # to be preempted: whoever ends by himself is not queued again
        elif self.shape == "processes":
            time.sleep(SECONDS_FOR_OTHERS)
        sys.exit(code)

    def _end_command(self, _number: int, _frame: FrameType | None) -> None:
        """Handles SIGTERM. The command may have got it too, and takes the second for the first."""
        self._told_to_end = True
        if self._command is not None:
            with suppress(ProcessLookupError):
                self._command.send_signal(signal.SIGTERM)

    def _queue_again(self, delay: float = 0.0) -> None:
        """Does not return: SLURM ends all tasks, and begins the job anew, after so many seconds at the earliest."""
        submitit.JobEnvironment()._requeue(0)
        if delay:
            job = os.environ["SLURM_JOB_ID"]
            subprocess.run(["scontrol", "update", f"JobId={job}", f"StartTime=now+{delay:.0f}seconds"], check=False)
        self._wait_to_be_ended()

    def _run(self, environment: dict[str, str]) -> int:
        """The command's exit code, negative for a signal."""
        self._command = subprocess.Popen(
            [sys.executable, "-P", "-u", "-m", "ear", *self.arguments],
            env={**os.environ, **code_environment(), SUPERVISED: "1", LAST_STOP: self.last_stop, **environment},
            preexec_fn=become_a_command,
        )
        if self._told_to_end:  # before there was a command
            self._command.send_signal(signal.SIGTERM)
        while (code := self._command.poll()) is None:
            time.sleep(POLL_SECONDS)
        return code

    def _meet(self, allocation: Allocation, board: Rendezvous) -> dict[str, str]:
        """The environment in which torch.distributed finds the other processes."""
        if allocation.rank == 0:
            board.publish(PORT, free_port())
        os.environ["MASTER_PORT"] = str(board.wait(PORT, SECONDS_TO_MEET))
        # CUDA_VISIBLE_DEVICES stays SLURM's: its numbers need not begin with 0.
        submitit.helpers.TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
        show_address(allocation, board)
        # Not a node's name, which need not be one that resolves.
        return {"MASTER_ADDR": first_address(allocation, board, SECONDS_TO_MEET)}

    @staticmethod
    def _wait_for_end(pid: int, seconds: float) -> None:
        """Not by Popen.wait: this may run in a signal handler that interrupted that object."""
        ended = os.WEXITED | os.WNOHANG | os.WNOWAIT
        deadline = time.monotonic() + seconds
        with suppress(ChildProcessError):  # it ended before, and Popen knows
            while os.waitid(os.P_PID, pid, ended) is None and time.monotonic() < deadline:
                time.sleep(POLL_SECONDS)

    @staticmethod
    def _wait_to_be_ended() -> None:
        """SLURM ends every task of a job that is over."""
        while True:
            time.sleep(POLL_SECONDS)


def sweep_of(folder: Path) -> str:
    """The name in that of a submission's folder, NAME-DATE-TIME-MILLISECONDS."""
    return folder.name.rsplit("-", 3)[0]


def stop_before(submitted: float, folder: Path) -> str:
    """The last request to stop a sweep if it was made before a time, in seconds since 1970; empty where none was, so
    that a later one counts."""
    try:
        return last_stop(folder, afresh=True) if (folder / STOP).stat().st_mtime <= submitted else ""
    except OSError:
        return ""


def seconds_since(file: Path) -> float:
    """That have passed since a file was made, perhaps on another node; infinite where there is none."""
    try:
        return time_in(file.parent) - file.stat().st_mtime
    except OSError:
        return math.inf


def make_scratch(wanted: str) -> Path:
    """The folder for temporary files, with the shell's variables replaced.

    Raises:
        UserError: a variable is not set on this node, or the folder can't be made.
    """
    folder = os.path.expandvars(wanted)
    node = os.environ.get("SLURMD_NODENAME", "this node")
    if "$" in folder:
        raise UserError(f"The profile's scratch, {wanted}, names a variable that is not set on {node}.")
    try:
        Path(folder).mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"The profile's scratch, {folder}, can't be made on {node}: {error.strerror}.") from error
    return Path(folder)


def is_running(job: str) -> bool:
    """Whether SLURM wants the job to run, as it does one that it lets save before a preemption; not one cancelled."""
    try:
        return task_states([job])[job].state == "RUNNING"
    except UserError:
        return False


def become_a_command() -> None:
    """Between fork and exec: submitit's signal is not the command's, which ends with its supervisor."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    end_with_parent()
