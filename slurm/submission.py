"""An `ear` command as a job: its sbatch script by submitit, and its record in ROOT/slurm/NAME-TIME/."""

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
from slurm.stopping import last_stop

UNLIMITED = 1_000_000  # restarts as far as submitit counts them; those that lead nowhere are counted by the job
RECORD = "job.json"

# A job that is killed while submitit writes its pickle anew leaves that beside the old one, which stops the next
# attempt, or instead of it.
HEAL = """\
pickle={folder}/${{SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}}${{SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}}_submitted.pkl
if [ -e "$pickle" ]; then rm -f "$pickle.save_tmp"
elif [ -e "$pickle.save_tmp" ]; then mv "$pickle.save_tmp" "$pickle"; fi"""


# Exit codes of our own pass; others are those of srun when it lost a task: killed by the system, or with its machine,
# which SLURM itself notices later than srun. 255 is submitit's, when it has queued the job again.
QUEUE_AGAIN = """\
code=$?
case $code in 0|1|2|75|130|255) exit $code;; esac
echo "A task was killed or lost (srun: exit code $code). The job is queued again."
scontrol requeue $SLURM_JOB_ID
exit $code"""


@dataclass(frozen=True)
class Request:
    """A command to be run on a cluster."""

    kind: Literal["sweep", "train", "evaluate", "encode"]
    name: str  # of the sweep or configuration
    arguments: tuple[str, ...]  # of `ear`
    root: Path
    cache: Path | None = None  # the folder of latents that it fills
    inputs: tuple[Path, ...] = ()  # YAML files that it reads: arguments, or named in one

    @property
    def command(self) -> str:
        return shlex.join(["ear", *self.arguments])


@dataclass(frozen=True)
class JobRecord:
    """A submitted job, for those who ask for it later."""

    id: str
    tasks: list[str]  # ids of an array's members, or the one of the job
    name: str
    command: str
    profile: str
    submitted: str  # ISO 8601, UTC
    folder: Path  # of its logs

    def log(self, task: str, rank: int = 0) -> Path:
        """What a task of the job printed."""
        return self.folder / f"{task}_{rank}_log.out"

    @classmethod
    def load(cls, path: Path) -> "JobRecord":
        values = json.loads(path.read_text(encoding="utf-8"))
        return cls(**{**values, "folder": path.parent})

    def save(self) -> None:
        write_json(self.folder / RECORD, {**asdict(self), "folder": None})


class _Script(submitit.SlurmExecutor):
    """Writes the script where there is no SLURM, too."""

    @classmethod
    def affinity(cls) -> int:
        return 1  # submitit's "usable"; it looks for srun


class Submission:
    """A request on a profile's machines. Nothing is written or queued before `submit`."""

    def __init__(self, request: Request, profile: Profile, profile_name: str) -> None:
        self.request = request
        self.profile = profile
        self._profile_name = profile_name
        now = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")[:-3]
        self.folder = request.root.resolve() / "slurm" / f"{request.name}-{now}"

    @property
    def in_array(self) -> bool:
        return self.request.kind == "sweep" and self.profile.sweep == "array"

    @property
    def shape(self) -> Shape:
        if self.request.kind == "sweep":
            return "gang" if self.profile.sweep == "gang" and self.profile.nodes > 1 else "alone"
        return "processes" if self.tasks > 1 else "alone"

    @property
    def tasks_per_node(self) -> int:
        """A sweep's driver has a node to itself; anything else is a process for each GPU."""
        return 1 if self.request.kind == "sweep" else max(1, self.profile.gpus)

    @property
    def tasks(self) -> int:
        return self.profile.nodes * self.tasks_per_node

    def job(self) -> EarJob:
        """What the tasks run, on copies of the request's files: a job may begin, and begin again, days later."""
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
        """
        Raises:
            UserError: there is no SLURM here.
        """
        try:
            executor = submitit.SlurmExecutor(self.folder, max_num_timeout=UNLIMITED, python=python())
        except RuntimeError as error:
            raise UserError("There is no SLURM here (no srun): call this on a cluster's login node.") from error
        return self._configured(executor)

    def _configured(self, executor: submitit.SlurmExecutor) -> submitit.SlurmExecutor:
        given = {name: value for name, value in self._parameters().items() if value is not None}
        executor.update_parameters(**given, wckey=None)  # submitit's own, which some clusters refuse
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
            "teardown": [QUEUE_AGAIN],
            # srun takes the number of CPUs from its own option only; one task that fails ends all.
            "srun_args": [f"--cpus-per-task={cpus}", "--kill-on-bad-exit=1"],
            "additional_parameters": {
                "requeue": True,
                **({"reservation": profile.reservation} if profile.reservation else {}),
                **profile.sbatch,
            },
        }

    def script(self) -> str:
        """What sbatch gets; there need be no SLURM here."""
        executor = self._configured(_Script(self.folder, max_num_timeout=UNLIMITED, python=python()))
        if self.in_array and self.profile.drivers > 1:
            executor.parameters["map_count"] = self.profile.drivers  # as submitit's own submission of arrays does
        return executor._make_submission_file_text(executor._submitit_command_str, "dry-run")

    def test(self) -> tuple[bool, str]:
        """Whether SLURM would take it, and what it says; nothing is queued.

        Raises:
            UserError: there is no SLURM here, or it does not answer.
        """
        asked = run_slurm("sbatch", "--test-only", given=self.script())
        return asked.returncode == 0, (asked.stdout + asked.stderr).strip()

    def submit(self) -> JobRecord:
        """
        Raises:
            UserError: SLURM refuses it, in SLURM's words; or the root can't be written.
        """
        executor = self.executor()
        require_writable(self.folder.parent)
        # The job is a pickle, which can run anything.
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
    """The words that start Python in a task, where it finds this code, and nothing in the working directory."""
    interpreter = f"{shlex.quote(sys.executable)} -P"
    folders = ":".join(search_path())
    # Here, not in the script's environment: a profile's setup may give PYTHONPATH anew.
    return (
        f"env PYTHONPATH={shlex.quote(folders)}${{PYTHONPATH:+:$PYTHONPATH}} {interpreter}" if folders else interpreter
    )


@contextmanager
def slurm_errors(folder: Path) -> Iterator[None]:
    """A refusal of sbatch's in its own words; the folder made for the job goes, since there is none."""
    try:
        yield
    except (FailedJobError, FailedSubmissionError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        words = str(error).replace("sbatch: error: ", "").strip()
        raise UserError(f"SLURM refuses the job: {words}") from error
