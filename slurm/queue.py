"""Queries SLURM for job states: squeue, and for older jobs sacct if the cluster has accounting."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from ear.errors import UserError

FIELDS = ("JobArrayID", "State", "NodeList", "Reason", "TimeUsed")
RUNNING = ("RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT")
WAITING = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD", "RESIZING")
FORGOTTEN = "FORGOTTEN"
SECONDS_TO_ANSWER = 60

# SLURM's reason codes for waiting jobs, explained.
REASONS = {
    "AssocGrpCpuLimit": "your account's CPUs are all in use",
    "AssocGrpGRES": "your account's GPUs are all in use",
    "AssocGrpBillingMinutes": "your account's budget is used up",
    "BadConstraints": "no node satisfies the profile's constraint",
    "BeginTime": "requeued a moment ago; it will start soon",
    "JobHeldUser": "held by its owner: scontrol release JOB",
    "JobHeldAdmin": "held by an administrator",
    "Licenses": "waiting for a licence",
    "NodeDown": "a required node is down",
    "PartitionConfig": "the profile requests more than the partition has",
    "PartitionDown": "the partition is down",
    "PartitionNodeLimit": "the profile requests more nodes than the partition allows",
    "PartitionTimeLimit": "the profile's hours exceed the partition's limit",
    "Priority": "other jobs have a higher priority",
    "QOSMaxCpuPerUserLimit": "you use all CPUs that the QOS allows you",
    "QOSMaxGRESPerUser": "you use all GPUs that the QOS allows you",
    "QOSMaxJobsPerUserLimit": "you run as many jobs as the QOS allows",
    "ReqNodeNotAvail": "a required node is down, drained or reserved",
    "Reservation": "waiting for its reservation to start",
    "Resources": "waiting for free machines",
}


@dataclass(frozen=True)
class TaskState:
    """The state of a job or of a member of an array."""

    task: str
    state: str  # SLURM's name of the state; FORGOTTEN if SLURM no longer knows the job
    nodes: str = ""
    reason: str = ""
    elapsed: str = ""  # [D-]H:MM:SS

    @property
    def waits(self) -> bool:
        """Whether the job waits in the queue."""
        return self.state in WAITING

    @property
    def over(self) -> bool:
        """Whether the job has ended, in any way."""
        return not self.waits and self.state not in RUNNING

    @property
    def failed(self) -> bool:
        """Whether the job has ended, but not successfully."""
        return self.over and self.state not in ("COMPLETED", FORGOTTEN)

    def describe(self) -> str:
        """Describes the state for people."""
        if self.waits:
            word = self.reason.strip("()").partition(",")[0]
            return f"{self.state.lower()}: {REASONS.get(word, word or 'no reason given')} ({word})"
        if self.state == FORGOTTEN:
            return "over; SLURM no longer knows it, see its log"
        return " ".join(
            part for part in (self.state.lower(), f"on {self.nodes}" if self.nodes else "", self.elapsed) if part
        )


def task_states(tasks: Sequence[str]) -> dict[str, TaskState]:
    """Returns the states of jobs and members of arrays.

    Raises:
        UserError: SLURM is not available here or does not respond.
    """
    found = {state.task: state for state in _ask_squeue(tasks)}
    unknown = [task for task in tasks if task not in found]
    if unknown:
        found |= {state.task: state for state in _ask_sacct(unknown)}
    return {task: found.get(task, TaskState(task, FORGOTTEN)) for task in tasks}


def _ask_squeue(tasks: Sequence[str]) -> list[TaskState]:
    jobs = sorted({task.partition("_")[0] for task in tasks})
    fields = ",".join(f"{name}:|" for name in FIELDS)
    found = []
    for job in jobs:  # one at a time: squeue fails for all of several jobs if one is too old
        answer = run_slurm("squeue", "--noheader", "--array", "--states=all", f"--jobs={job}", f"--Format={fields}")
        if answer.returncode and "Invalid job id" not in answer.stderr:
            raise UserError(f"SLURM does not respond: {answer.stderr.strip()}")
        found += [TaskState(*line.split("|")[: len(FIELDS)]) for line in answer.stdout.splitlines()]
    return found


def _ask_sacct(tasks: Sequence[str]) -> list[TaskState]:
    """States from the accounting; empty if the cluster has none."""
    jobs = ",".join(sorted({task.partition("_")[0] for task in tasks}))
    fields = ("JobID", "State", "NodeList", "Reason", "Elapsed")
    try:
        answer = run_slurm(
            "sacct", "--noheader", "--parsable2", "--allocations", f"--jobs={jobs}", f"--format={','.join(fields)}"
        )
    except UserError:
        return []
    rows = [line.split("|") for line in answer.stdout.splitlines()]
    return [
        TaskState(task, state.split()[0], nodes, reason, elapsed)  # `CANCELLED by 1000`
        for task, state, nodes, reason, elapsed in (row for row in rows if len(row) == len(fields))
        if state
    ]


def cancel(job: str) -> None:
    """Cancels a job; its command saves its work first.

    Raises:
        UserError: SLURM refuses; with SLURM's message.
    """
    answer = run_slurm("scancel", job)
    if answer.returncode:
        raise UserError(f"SLURM does not cancel {job}: {answer.stderr.replace('scancel: error: ', '').strip()}")


def run_slurm(*command: str, given: str | None = None) -> "subprocess.CompletedProcess[str]":
    """Runs a SLURM command with `given` as its standard input.

    Raises:
        UserError: the command does not exist or does not finish in time.
    """
    try:
        return subprocess.run(command, input=given, capture_output=True, text=True, timeout=SECONDS_TO_ANSWER)
    except FileNotFoundError as error:
        raise UserError(f"SLURM is not available here (no {command[0]}): run this on a login node.") from error
    except subprocess.TimeoutExpired as error:
        raise UserError(
            f"SLURM does not respond: {command[0]} took more than {SECONDS_TO_ANSWER} s. Try again later."
        ) from error
