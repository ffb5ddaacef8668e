"""What a cluster is asked for: one YAML file a kind of machine, validated before anything is queued."""

import difflib
import math
import re
import subprocess
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, StrictBool, StrictInt, field_validator

from ear.config.loading import read_yaml, validate
from ear.config.numbers import Count, Flag, NonNegative, Number
from ear.config.schema import Section
from ear.errors import UserError, shortened
from ear.files.writing import exists

OPTION = re.compile("[a-z][a-z0-9-]+")
SBATCH_OPTION = re.compile(f"--({OPTION.pattern})")
OURS = {
    **{name: name for name in ("account", "constraint", "exclusive", "nodes", "partition", "qos", "reservation")},
    "array": "drivers",
    "cpus-per-task": "cpus_per_node",
    "gpus-per-node": "gpus_per_node",
    "mem": "memory_gb",
    "signal": "signal_delay",
    "time": "hours",
    **dict.fromkeys(("gpus", "gpus-per-task", "gres"), "gpus_per_node"),
    **dict.fromkeys(("mem-per-cpu", "mem-per-gpu"), "memory_gb"),
    **dict.fromkeys(
        ("error", "job-name", "no-requeue", "ntasks", "ntasks-per-node", "open-mode", "output", "requeue"),
        "none, it follows from the command",
    ),
}
"""sbatch's options that a profile has words of its own for."""

VERBATIM = ("account", "constraint", "gpus_per_node", "partition", "qos", "reservation", "sbatch")
"""What reaches sbatch as it is written: a project may be called 0123."""


def _as_text(value: object) -> object:
    """A bare number of GPUs is one without a type."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


class Profile(Section):
    partition: str | None = None
    """Where jobs queue; the cluster's default where it is left out. So with the others."""
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    """Features that nodes must have, e.g. `a100|h100`."""
    reservation: str | None = None
    nodes: Count = 1
    """Of one job."""
    gpus_per_node: Annotated[str, BeforeValidator(_as_text), Field(pattern=r"^([A-Za-z0-9_.-]+:)?[0-9]{1,4}$")] = "0"
    """How many, or a typed GRES: `a100:4`."""
    cpus_per_node: Count = 1
    """Of all processes on a node together."""
    memory_gb: Annotated[Number, Field(gt=0, le=1_000_000)] | None = None
    """On each node."""
    hours: Annotated[Number, Field(gt=0, le=100_000)]
    """Time limit. What is not done by then is saved, queued again and goes on."""
    exclusive: Flag = False
    """Whether nodes are shared with nobody."""
    sweep: Literal["gang", "array"] = "gang"
    """How `ear sweep run` is carried out: by one driver over all nodes of one job, or by an array of drivers."""
    drivers: Annotated[Count, Field(le=10_000)] = 4
    """Jobs of an array, each with `nodes: 1`."""
    array_parallelism: Count | None = None
    """Of these, how many run at a time; as many as the cluster allows where this is left out."""
    signal_delay: Annotated[Number, Field(ge=15)] = 120
    """Seconds before the time limit at which work is saved."""
    restarts: NonNegative = 3
    """In a row that made no progress, after which a job gives up; those that made some are not counted."""
    setup: list[str] = []
    """Shell commands before anything is started, e.g. `module load cuda`."""
    scratch: str | None = None
    """Folder on the node for temporary files; the shell's variables are replaced. TMPDIR where it is left out."""
    sbatch: dict[str, str | StrictInt | StrictBool] = {}
    """Any further option of sbatch, by its long name without the dashes, verbatim."""

    @field_validator("hours", mode="before")
    @classmethod
    def _no_clock_time(cls, hours: object) -> object:
        if isinstance(hours, str) and (":" in hours or "-" in hours):
            raise ValueError("give the time limit as a number of hours: 36 for 1-12:00:00, 1.5 for 1:30:00")
        return hours

    @field_validator("sbatch", mode="before")
    @classmethod
    def _no_second_words(cls, options: object) -> object:
        for name, value in options.items() if isinstance(options, dict) else ():
            if not OPTION.fullmatch(str(name)):
                raise ValueError(f"{name}: write an option by its long name without the dashes, e.g. mail-type")
            if name in OURS:
                raise ValueError(f"{name} has a word of its own in a profile: {OURS[name]}")
            if value is False:
                raise ValueError(f"{name}: leave an option out that is not to be given")
            if value is None or isinstance(value, list | dict):
                raise ValueError(f"{name}: give a number or text, or true for an option without a value")
        return options

    @property
    def gpus(self) -> int:
        """On each node."""
        return int(self.gpus_per_node.rpartition(":")[2])

    @property
    def minutes(self) -> int:
        return max(1, math.ceil(self.hours * 60))


def shipped_profiles() -> list[str]:
    """Names of the profiles that come with the package."""
    folder = resources.files("slurm") / "profiles"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_profile(name_or_path: str) -> Profile:
    """
    Raises:
        UserError: there is none, or it is not valid; with the place and the valid names.
    """
    if name_or_path in shipped_profiles():
        path = Path(str(resources.files("slurm") / "profiles" / f"{name_or_path}.yaml"))
    else:
        path = Path(name_or_path)
        if not exists(path):
            raise UserError(
                f"There is no profile {shortened(name_or_path)!r}: give a YAML file or one of the shipped names, "
                f"{', '.join(shipped_profiles())}."
            )
    profile = validate(Profile, read_yaml(path, VERBATIM), source=str(path))
    if profile.sweep == "array" and profile.nodes != 1:
        raise UserError(f"{path}: nodes: an array's drivers have one node each; use sweep: gang for {profile.nodes}.")
    if profile.minutes * 60 <= profile.signal_delay:
        raise UserError(f"{path}: hours: the time limit is shorter than signal_delay, so that nothing would be done.")
    _refuse_unknown_options(profile, path)
    return profile


def _refuse_unknown_options(profile: Profile, path: Path) -> None:
    """
    Raises:
        UserError: this cluster's sbatch has no such option.
    """
    if not profile.sbatch:
        return
    try:
        help_text = subprocess.run(["sbatch", "--help"], capture_output=True, text=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return  # submitting says what is wrong with it
    known = sorted(set(SBATCH_OPTION.findall(help_text)) - set(OURS))
    for name in profile.sbatch:
        if known and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f", did you mean {near[0]!r}?" if near else ""
            raise UserError(f"{path}: sbatch: unknown option {name!r}{hint} Valid here: {', '.join(known)}.")
