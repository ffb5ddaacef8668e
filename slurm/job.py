"""The function that submitit runs in every task of a job: supervises an `ear` command until it is done.

A job's first task may be signalled in two ways. Shortly before the time limit, submitit's signal arrives; submitit
calls `checkpoint`, which lets the command save its work, and requeues the job. At a preemption, requeue or
cancellation, SIGTERM arrives and is passed on to the command, because on clusters with cgroups nothing else does that.
A job may be started any number of times: finished work is in the store, unfinished work in a checkpoint.
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
from slurm.message_board import MessageBoard, first_address, show_address
from slurm.ports import free_port
from slurm.progress import Progress
from slurm.queue import task_states
from slurm.stop_requests import STOP, last_stop
from slurm.submitit_private import requeue_this_job

Shape = Literal["alone", "gang", "processes"]
"""alone: one task. gang: one task per node, with the driver in the first. processes: one training process per task."""

INTERRUPTED = 130  # exit code of a command that saved its work and stopped on request
PORT = "port"  # topic on the message board
POLL_SECONDS = 0.2
REQUEUE_WAIT_SECONDS = 90.0  # a failed task's wait before it ends the job: another that was killed may requeue it
RENDEZVOUS_SECONDS = 300.0  # for all processes of a training to start
IDLE_RESTART_SECONDS = 300.0  # before a driver with nothing to do is started again
REQUEUE_MARGIN_SECONDS = 10.0  # seconds of the signal's delay that are reserved for the requeue


class EarJob:
    """An `ear` command as a job; submitit pickles it at submission and calls it in every task."""

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
        """Creates the job.

        Args:
            arguments: command-line arguments of `ear`.
            folder: this submission's folder, shared by the tasks.
            store: the store that the command writes to.
            cache: the folder of latents that `ear encode` fills; None for other commands.
            signal_delay: seconds between the signal and the time limit.
            restarts: most restarts in a row without progress.
            scratch: folder on the node for temporary files; None for the default.
            last_stop: the sweep's last stop request at the time of submission.
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
        """Restores a pickled job, including jobs of earlier versions, which stored the time of submission instead of
        the last stop request."""
        if (submitted := state.pop("submitted", None)) is not None:
            state["last_stop"] = stop_before(submitted, state["store"].parent / sweep_of(state["folder"]))
        vars(self).update(state)

    def __call__(self) -> None:
        """Runs this task of the job."""
        allocation = Allocation.current()
        assert allocation is not None, "called outside of a job"
        signal.signal(signal.SIGTERM, self._end_command)  # submitit's own handler ignores it
        if self.scratch is not None:
            tempfile.tempdir = os.environ["TMPDIR"] = str(make_scratch(self.scratch))
        try:
            self._run_task(allocation)
        finally:
            for parent in parents():
                remove_abandoned(parent)  # temporary folders of a killed command

    def _run_task(self, allocation: Allocation) -> None:
        board = MessageBoard(self.folder, allocation.job, allocation.restarts)
        match self.shape:
            case "alone":
                self._supervise(allocation, {})
            case "processes":
                self._supervise(allocation, self._meet(allocation, board))
            case "gang":
                gang = Gang(allocation, board)
                if allocation.rank > 0:
                    gang.serve()  # also after SIGTERM: the driver tells the trials to save
                    return
                try:
                    self._supervise(allocation, gang.environment())
                finally:
                    gang.finish()

    def checkpoint(self) -> DelayedSubmission:
        """Lets the command save and exit, and returns the job to requeue; submitit calls it in a signal handler of the
        first task."""
        if self._command is not None:
            with suppress(ProcessLookupError):
                self._command.send_signal(signal.SIGTERM)
            self._wait_for_end(self._command.pid, self.signal_delay - REQUEUE_MARGIN_SECONDS)
        arguments = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        return DelayedSubmission(EarJob(**arguments))

    def _supervise(self, allocation: Allocation, environment: dict[str, str]) -> None:
        """Runs the command, again if its process is killed, and ends the task with its exit code."""
        attempts = Attempts(self.folder / f"attempts-{allocation.job}.json", self.restarts)
        rest = self.folder / f"rest-{allocation.job}"  # written when the driver had nothing to do
        if (left := IDLE_RESTART_SECONDS - seconds_since(rest)) > 0:
            self._requeue(left)  # it began too early: SLURM drops a start time that is set while a job is ending
        while True:
            if allocation.rank == 0:
                attempts.begin(os.environ.get("SLURMD_NODENAME", ""), Progress.of(self.store, self.cache))
            code = self._run(environment)
            if -code in (signal.SIGTERM, signal.SIGINT):  # arrived before the command had installed its handlers
                code = INTERRUPTED
            if code >= 0:
                break
            print(f"The command was killed ({signal.Signals(-code).name}).", file=sys.stderr, flush=True)
            if self.shape == "processes":
                self._requeue()  # the other processes can neither continue without this one nor reconnect
        if code == 0:
            return
        if code == NOTHING_READY:
            print("Nothing is ready for this driver: giving its machine back for a while.", flush=True)
            attempts.forget_last()
            write_text(rest, "")
            self._requeue(IDLE_RESTART_SECONDS)
        if code == INTERRUPTED:
            if allocation.rank > 0:
                self._wait_to_be_ended()  # an exit would end the first task too, which may still be saving
            if is_running(allocation.job):
                self._requeue()  # a preemption: SLURM does not requeue a job that exits by itself
        elif self.shape == "processes":
            time.sleep(REQUEUE_WAIT_SECONDS)
        sys.exit(code)

    def _end_command(self, _number: int, _frame: FrameType | None) -> None:
        """Handles SIGTERM by passing it on. The command may get it twice, and treats that like once."""
        self._told_to_end = True
        if self._command is not None:
            with suppress(ProcessLookupError):
                self._command.send_signal(signal.SIGTERM)

    def _requeue(self, delay: float = 0.0) -> None:
        """Requeues the job, to start after `delay` seconds at the earliest. Does not return: SLURM ends all tasks."""
        requeue_this_job()
        if delay:
            job = os.environ["SLURM_JOB_ID"]
            subprocess.run(["scontrol", "update", f"JobId={job}", f"StartTime=now+{delay:.0f}seconds"], check=False)
        self._wait_to_be_ended()

    def _run(self, environment: dict[str, str]) -> int:
        """Runs the command once and returns its exit code; negative for a signal."""
        self._command = subprocess.Popen(
            [sys.executable, "-P", "-u", "-m", "ear", *self.arguments],
            env={**os.environ, **code_environment(), SUPERVISED: "1", LAST_STOP: self.last_stop, **environment},
            preexec_fn=prepare_command,
        )
        if self._told_to_end:  # SIGTERM arrived before the command started
            self._command.send_signal(signal.SIGTERM)
        while (code := self._command.poll()) is None:
            time.sleep(POLL_SECONDS)
        return code

    def _meet(self, allocation: Allocation, board: MessageBoard) -> dict[str, str]:
        """The environment variables by which torch.distributed finds the other processes."""
        if allocation.rank == 0:
            board.publish(PORT, free_port())
        os.environ["MASTER_PORT"] = str(board.wait(PORT, RENDEZVOUS_SECONDS))
        # CUDA_VISIBLE_DEVICES stays as SLURM set it: its numbers need not start at 0.
        submitit.helpers.TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
        show_address(allocation, board)
        # An address, because a node's name need not resolve.
        return {"MASTER_ADDR": first_address(allocation, board, RENDEZVOUS_SECONDS)}

    @staticmethod
    def _wait_for_end(pid: int, seconds: float) -> None:
        """Waits for a process without Popen.wait, since this may run in a signal handler that interrupted Popen."""
        ended = os.WEXITED | os.WNOHANG | os.WNOWAIT
        deadline = time.monotonic() + seconds
        with suppress(ChildProcessError):  # already ended, and Popen has collected it
            while os.waitid(os.P_PID, pid, ended) is None and time.monotonic() < deadline:
                time.sleep(POLL_SECONDS)

    @staticmethod
    def _wait_to_be_ended() -> None:
        """Waits until SLURM ends this task."""
        while True:
            time.sleep(POLL_SECONDS)


def sweep_of(folder: Path) -> str:
    """Returns the sweep's name from the name of a submission's folder, NAME-DATE-TIME-MILLISECONDS."""
    return folder.name.rsplit("-", 3)[0]


def stop_before(submitted: float, folder: Path) -> str:
    """Returns a sweep's last stop request if it was made before `submitted` (seconds since 1970); otherwise empty, so
    that a later request counts."""
    try:
        return last_stop(folder, afresh=True) if (folder / STOP).stat().st_mtime <= submitted else ""
    except OSError:
        return ""


def seconds_since(file: Path) -> float:
    """Returns the seconds since a file was written, possibly by another node; infinite if there is none."""
    try:
        return time_in(file.parent) - file.stat().st_mtime
    except OSError:
        return math.inf


def make_scratch(wanted: str) -> Path:
    """Creates the folder for temporary files, with shell variables replaced.

    Raises:
        UserError: a variable is not set on this node, or the folder can't be created.
    """
    folder = os.path.expandvars(wanted)
    node = os.environ.get("SLURMD_NODENAME", "this node")
    if "$" in folder:
        raise UserError(f"The profile's scratch, {wanted}, names a variable that is not set on {node}.")
    try:
        Path(folder).mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"The profile's scratch, {folder}, can't be created on {node}: {error.strerror}.") from error
    return Path(folder)


def is_running(job: str) -> bool:
    """Whether SLURM's state of the job is RUNNING, as before a preemption, but not after a cancellation."""
    try:
        return task_states([job])[job].state == "RUNNING"
    except UserError:
        return False


def prepare_command() -> None:
    """Prepares the command between fork and exec: it ignores submitit's signal, and exits with its supervisor."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    end_with_parent()
