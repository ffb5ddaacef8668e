"""Profiles: what to request from a cluster, one YAML file per kind of machine, validated before submission."""

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
PROFILE_KEYS = {
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
        "none, the command decides it",
    ),
}
"""sbatch option -> the profile key that sets it."""

VERBATIM = ("account", "constraint", "gpus_per_node", "partition", "qos", "reservation", "sbatch")
"""Keys whose YAML text is passed to sbatch unchanged: an account may be named 0123."""


def _as_text(value: object) -> object:
    """Accepts a bare number of GPUs, without a type."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


class Profile(Section):
    """A profile YAML: what one job requests, and how a sweep uses it."""

    partition: str | None = None
    """Partition of the jobs; by default the cluster's. So with account, qos, constraint and reservation."""
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    """Features that nodes must have, e.g. `a100|h100`."""
    reservation: str | None = None
    nodes: Count = 1
    """Nodes of one job."""
    gpus_per_node: Annotated[str, BeforeValidator(_as_text), Field(pattern=r"^([A-Za-z0-9_.-]+:)?[0-9]{1,4}$")] = "0"
    """Number of GPUs, or a typed GRES such as `a100:4`."""
    cpus_per_node: Count = 1
    """CPUs of all processes on a node together."""
    memory_gb: Annotated[Number, Field(gt=0, le=1_000_000)] | None = None
    """Memory of each node, in GiB."""
    hours: Annotated[Number, Field(gt=0, le=100_000)]
    """Time limit. Unfinished work is saved and continues when the job is requeued."""
    exclusive: Flag = False
    """Whether the job gets whole nodes."""
    sweep: Literal["gang", "array"] = "gang"
    """How `ear sweep run` runs: `gang`, one driver over all nodes of one job; `array`, an array of drivers."""
    drivers: Annotated[Count, Field(le=10_000)] = 4
    """Number of drivers of an array, each with `nodes: 1`."""
    array_parallelism: Count | None = None
    """How many of them run at a time; by default as many as the cluster allows."""
    signal_delay: Annotated[Number, Field(ge=15)] = 120
    """Seconds before the time limit at which work is saved."""
    restarts: NonNegative = 3
    """Restarts in a row without progress before a job gives up; those with progress do not count."""
    setup: list[str] = []
    """Shell commands to run first, e.g. `module load cuda`."""
    scratch: str | None = None
    """Folder on the node for temporary files; shell variables are replaced. By default TMPDIR."""
    sbatch: dict[str, str | StrictInt | StrictBool] = {}
    """Further sbatch options, by their long names without the dashes; passed on unchanged."""

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
                raise ValueError(f"{name}: write an option as its long name without the dashes, e.g. mail-type")
            if name in PROFILE_KEYS:
                raise ValueError(f"{name} has its own key in a profile: {PROFILE_KEYS[name]}")
            if value is False:
                raise ValueError(f"{name}: remove the option instead of setting it to false")
            if value is None or isinstance(value, list | dict):
                raise ValueError(f"{name}: give a number or text, or true for an option without a value")
        return options

    @property
    def gpus(self) -> int:
        """GPUs of each node."""
        return int(self.gpus_per_node.rpartition(":")[2])

    @property
    def minutes(self) -> int:
        """The time limit in whole minutes, rounded up."""
        return max(1, math.ceil(self.hours * 60))


def shipped_profiles() -> list[str]:
    """Returns the names of the profiles that ship with the package."""
    folder = resources.files("slurm") / "profiles"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_profile(name_or_path: str) -> Profile:
    """Loads and validates a shipped profile or a YAML file.

    Raises:
        UserError: it does not exist or is not valid; the message names the position and the valid names.
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
        raise UserError(f"{path}: hours: the time limit must be longer than signal_delay ({profile.signal_delay:g} s).")
    _refuse_unknown_options(profile, path)
    return profile


def _refuse_unknown_options(profile: Profile, path: Path) -> None:
    """Checks a profile's sbatch options against this cluster's sbatch, if there is one.

    Raises:
        UserError: this cluster's sbatch has no such option.
    """
    if not profile.sbatch:
        return
    try:
        help_text = subprocess.run(["sbatch", "--help"], capture_output=True, text=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return  # the submission reports the problem
    known = sorted(set(SBATCH_OPTION.findall(help_text)) - set(PROFILE_KEYS))
    for name in profile.sbatch:
        if known and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f", did you mean {near[0]!r}?" if near else "."
            raise UserError(f"{path}: sbatch: unknown option {name!r}{hint} Valid here: {', '.join(known)}.")
