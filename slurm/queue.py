"""What SLURM says of jobs: by squeue while it remembers them, then by sacct where the cluster keeps accounts."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from ear.errors import UserError

FIELDS = ("JobArrayID", "State", "NodeList", "Reason", "TimeUsed")
RUNNING = ("RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT")
WAITING = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD", "RESIZING")
FORGOTTEN = "FORGOTTEN"
SECONDS_TO_ANSWER = 60

# Of those that say nothing to most people.
REASONS = {
    "AssocGrpCpuLimit": "your account's CPUs are all in use",
    "AssocGrpGRES": "your account's GPUs are all in use",
    "AssocGrpBillingMinutes": "your account's budget is used up",
    "BadConstraints": "no node has what the profile's constraint asks for",
    "BeginTime": "queued again a moment ago; it may begin soon",
    "JobHeldUser": "held by its owner: scontrol release JOB",
    "JobHeldAdmin": "held by an administrator",
    "Licenses": "waits for a licence",
    "NodeDown": "a node that it needs is down",
    "PartitionConfig": "the profile asks for more than the partition has",
    "PartitionDown": "the partition is down",
    "PartitionNodeLimit": "the profile asks for more nodes than the partition gives",
    "PartitionTimeLimit": "the profile's hours are more than the partition gives",
    "Priority": "others are before it",
    "QOSMaxCpuPerUserLimit": "your CPUs allowed by the QOS are all in use",
    "QOSMaxGRESPerUser": "your GPUs allowed by the QOS are all in use",
    "QOSMaxJobsPerUserLimit": "as many of your jobs run as the QOS allows",
    "ReqNodeNotAvail": "a node that it needs is down, drained or reserved",
    "Reservation": "waits for its reservation to begin",
    "Resources": "waits for machines to become free",
}


@dataclass(frozen=True)
class TaskState:
    """A job, or a member of an array, as SLURM sees it."""

    task: str
    state: str  # SLURM's word for it; FORGOTTEN where it knows nothing (any more)
    nodes: str = ""
    reason: str = ""
    elapsed: str = ""  # [D-]H:MM:SS

    @property
    def waits(self) -> bool:
        return self.state in WAITING

    @property
    def over(self) -> bool:
        return not self.waits and self.state not in RUNNING

    @property
    def failed(self) -> bool:
        return self.over and self.state not in ("COMPLETED", FORGOTTEN)

    def describe(self) -> str:
        """For people."""
        if self.waits:
            word = self.reason.strip("()").partition(",")[0]
            return f"{self.state.lower()}: {REASONS.get(word, word or 'no reason given')} ({word})"
        if self.state == FORGOTTEN:
            return "over; SLURM has forgotten it, its log tells how it ended"
        return " ".join(
            part for part in (self.state.lower(), f"on {self.nodes}" if self.nodes else "", self.elapsed) if part
        )


def task_states(tasks: Sequence[str]) -> dict[str, TaskState]:
    """The state of each of these jobs or members of arrays.

    Raises:
        UserError: there is no SLURM here, or it does not answer.
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
    for job in jobs:  # one at a time: squeue knows none of several where one is too old
        answer = run_slurm("squeue", "--noheader", "--array", "--states=all", f"--jobs={job}", f"--Format={fields}")
        if answer.returncode and "Invalid job id" not in answer.stderr:
            raise UserError(f"SLURM does not answer: {answer.stderr.strip()}")
        found += [TaskState(*line.split("|")[: len(FIELDS)]) for line in answer.stdout.splitlines()]
    return found


def _ask_sacct(tasks: Sequence[str]) -> list[TaskState]:
    """Nothing where the cluster keeps no accounts, or has no sacct."""
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
    """Lets a job's commands save what they have, and end.

    Raises:
        UserError: SLURM refuses, in its words.
    """
    answer = run_slurm("scancel", job)
    if answer.returncode:
        raise UserError(f"SLURM does not cancel {job}: {answer.stderr.replace('scancel: error: ', '').strip()}")


def run_slurm(*command: str, given: str | None = None) -> "subprocess.CompletedProcess[str]":
    """A command of SLURM's, with a text on its standard input.

    Raises:
        UserError: there is no such command, or it hangs.
    """
    try:
        return subprocess.run(command, input=given, capture_output=True, text=True, timeout=SECONDS_TO_ANSWER)
    except FileNotFoundError as error:
        raise UserError(f"There is no SLURM here (no {command[0]}): call this on a cluster's login node.") from error
    except subprocess.TimeoutExpired as error:
        raise UserError(
            f"SLURM does not answer: {command[0]} took more than {SECONDS_TO_ANSWER} s. Try later."
        ) from error
