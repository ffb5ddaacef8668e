"""Submits an `ear` command as a job: its sbatch script by submitit, and its record in ROOT/slurm/NAME-TIME/."""

import json
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError

from ear.errors import UserError
from ear.files.private import keep_names, keep_private
from ear.files.writing import require_writable, write_json
from ear.process.code import search_path
from slurm.inputs import keep
from slurm.job import EarJob, Shape
from slurm.profile import Profile
from slurm.queue import run_slurm
from slurm.stop_requests import last_stop
from slurm.submitit_private import script_text

UNLIMITED = 1_000_000  # submitit's limit of restarts; the job itself counts those without progress
RECORD = "job.json"

# A job that is killed while submitit rewrites its pickle leaves a temporary file, beside the pickle or instead of it.
# Either would stop the next attempt, so the script removes or renames it first.
HEAL = """\
pickle={folder}/${{SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}}${{SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}}_submitted.pkl
if [ -e "$pickle" ]; then rm -f "$pickle.save_tmp"
elif [ -e "$pickle.save_tmp" ]; then mv "$pickle.save_tmp" "$pickle"; fi"""


# EAR's own exit codes pass. Others come from srun when it lost a task, which was killed by the system or with its
# machine; SLURM notices that later than srun. 255 is submitit's code after it has requeued the job.
REQUEUE = """\
code=$?
case $code in 0|1|2|75|130|255) exit $code;; esac
echo "A task was killed or lost (srun: exit code $code). The job is requeued."
scontrol requeue $SLURM_JOB_ID
exit $code"""


@dataclass(frozen=True)
class Request:
    """A command to run on a cluster."""

    kind: Literal["sweep", "train", "evaluate", "encode"]
    name: str  # of the sweep or configuration
    arguments: tuple[str, ...]  # command-line arguments of `ear`
    root: Path
    cache: Path | None = None  # folder of latents that `ear encode` fills
    inputs: tuple[Path, ...] = ()  # YAML files that the command reads

    @property
    def command(self) -> str:
        """The command line."""
        return shlex.join(["ear", *self.arguments])


@dataclass(frozen=True)
class JobRecord:
    """The record of a submitted job, for `ear slurm`."""

    id: str
    tasks: list[str]  # ids of an array's members, or the job's id
    name: str
    command: str
    profile: str
    submitted: str  # ISO 8601, UTC
    folder: Path  # folder of its logs

    def log(self, task: str, rank: int = 0) -> Path:
        """Returns the log file of a task."""
        return self.folder / f"{task}_{rank}_log.out"

    @classmethod
    def load(cls, path: Path) -> "JobRecord":
        """Reads a record's file."""
        values = json.loads(path.read_text(encoding="utf-8"))
        return cls(**{**values, "folder": path.parent})

    def save(self) -> None:
        """Writes the record into the job's folder."""
        write_json(self.folder / RECORD, {**asdict(self), "folder": None})


class _Script(submitit.SlurmExecutor):
    """An executor that writes scripts on machines without SLURM too."""

    @classmethod
    def affinity(cls) -> int:
        """Claims to be usable; submitit's own method checks for srun."""
        return 1


class Submission:
    """A request with a profile. Nothing is written or queued before `submit`."""

    def __init__(self, request: Request, profile: Profile, profile_name: str) -> None:
        self.request = request
        self.profile = profile
        self._profile_name = profile_name
        now = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")[:-3]
        self.folder = request.root.resolve() / "slurm" / f"{request.name}-{now}"

    @property
    def in_array(self) -> bool:
        """Whether it is a sweep by an array of drivers."""
        return self.request.kind == "sweep" and self.profile.sweep == "array"

    @property
    def shape(self) -> Shape:
        """How the job's tasks share the command."""
        if self.request.kind == "sweep":
            return "gang" if self.profile.sweep == "gang" and self.profile.nodes > 1 else "alone"
        return "processes" if self.tasks > 1 else "alone"

    @property
    def tasks_per_node(self) -> int:
        """Tasks per node: one for a sweep's driver, otherwise one process per GPU."""
        return 1 if self.request.kind == "sweep" else max(1, self.profile.gpus)

    @property
    def tasks(self) -> int:
        """Tasks of the job."""
        return self.profile.nodes * self.tasks_per_node

    def job(self) -> EarJob:
        """Returns what the tasks run, with copies of the request's files, since a job may start days later."""
        kept = keep(self.request.inputs, self.folder / "inputs")
        return EarJob(
            arguments=[str(kept.get(Path(argument), argument)) for argument in self.request.arguments],
            shape=self.shape,
            folder=self.folder,
            store=self.request.root.resolve() / "store",
            cache=self.request.cache,
            signal_delay=float(self.profile.signal_delay),
            restarts=self.profile.restarts,
            scratch=self.profile.scratch,
            last_stop=last_stop(self.request.root / self.request.name, afresh=True),
        )

    def executor(self) -> submitit.SlurmExecutor:
        """Returns submitit's executor with the profile's parameters.

        Raises:
            UserError: SLURM is not available here.
        """
        try:
            executor = submitit.SlurmExecutor(self.folder, max_num_timeout=UNLIMITED, python=python())
        except RuntimeError as error:
            raise UserError("SLURM is not available here (no srun): run this on a login node.") from error
        return self._configured(executor)

    def _configured(self, executor: submitit.SlurmExecutor) -> submitit.SlurmExecutor:
        given = {name: value for name, value in self._parameters().items() if value is not None}
        executor.update_parameters(**given, wckey=None)  # some clusters reject submitit's default wckey
        return executor

    def _parameters(self) -> dict[str, Any]:
        profile = self.profile
        cpus = max(1, profile.cpus_per_node // self.tasks_per_node)
        parallelism = profile.array_parallelism or profile.drivers
        return {
            "job_name": f"ear-{self.request.name}",
            "partition": profile.partition,
            "account": profile.account,
            "qos": profile.qos,
            "constraint": profile.constraint,
            "exclusive": profile.exclusive or None,
            "nodes": profile.nodes,
            "ntasks_per_node": self.tasks_per_node,
            "cpus_per_task": cpus,
            "gpus_per_node": profile.gpus_per_node if profile.gpus else None,
            "mem": f"{round(profile.memory_gb * 1024)}M" if profile.memory_gb else None,
            "time": profile.minutes,
            "signal_delay_s": round(profile.signal_delay),
            "array_parallelism": parallelism,
            "stderr_to_stdout": True,
            "setup": [*profile.setup, HEAL.format(folder=shlex.quote(str(self.folder)))],
            "teardown": [REQUEUE],
            # srun does not inherit sbatch's CPU count; one failing task ends all.
            "srun_args": [f"--cpus-per-task={cpus}", "--kill-on-bad-exit=1"],
            "additional_parameters": {
                "requeue": True,
                **({"reservation": profile.reservation} if profile.reservation else {}),
                **profile.sbatch,
            },
        }

    def script(self) -> str:
        """Returns the sbatch script; works without SLURM."""
        executor = self._configured(_Script(self.folder, max_num_timeout=UNLIMITED, python=python()))
        return script_text(executor, self.profile.drivers if self.in_array else 1)

    def test(self) -> tuple[bool, str]:
        """Returns whether SLURM would accept the job, and its message; queues nothing.

        Raises:
            UserError: SLURM is not available here or does not respond.
        """
        asked = run_slurm("sbatch", "--test-only", given=self.script())
        return asked.returncode == 0, (asked.stdout + asked.stderr).strip()

    def submit(self) -> JobRecord:
        """Submits the job and saves its record.

        Raises:
            UserError: SLURM rejects it (with SLURM's message), or the root can't be written.
        """
        executor = self.executor()
        require_writable(self.folder.parent)
        # The job is a pickle: whoever can write it can run any code as this user.
        keep_names(self.folder.parent)
        keep_private(self.folder, "root with --root DIR or EAR_ROOT", strict=False)
        with slurm_errors(self.folder):
            job = self.job()
            if self.in_array and self.profile.drivers > 1:
                jobs = executor.submit_array([job] * self.profile.drivers)
            else:
                jobs = [executor.submit(job)]
        ids = [each.job_id for each in jobs]
        record = JobRecord(
            id=ids[0].partition("_")[0],
            tasks=ids,
            name=self.request.name,
            command=self.request.command,
            profile=self._profile_name,
            submitted=datetime.now(UTC).isoformat(timespec="seconds"),
            folder=self.folder,
        )
        record.save()
        return record


def python() -> str:
    """Returns the command that starts Python in a task, with this code importable, but not the working directory."""
    interpreter = f"{shlex.quote(sys.executable)} -P"
    folders = ":".join(search_path())
    # Here and not in the script's environment, because a profile's setup may set PYTHONPATH.
    return (
        f"env PYTHONPATH={shlex.quote(folders)}${{PYTHONPATH:+:$PYTHONPATH}} {interpreter}" if folders else interpreter
    )


@contextmanager
def slurm_errors(folder: Path) -> Iterator[None]:
    """Turns a rejection by sbatch into a `UserError` with its message, and removes the job's folder.

    Raises:
        UserError: SLURM rejects the job.
    """
    try:
        yield
    except (FailedJobError, FailedSubmissionError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        words = str(error).replace("sbatch: error: ", "").strip()
        raise UserError(f"SLURM rejects the job: {words}") from error
