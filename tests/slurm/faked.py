"""SLURM's commands replaced on PATH, for what a real cluster can't be made to do."""

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

COMMANDS = ("sbatch", "srun", "squeue", "sacct", "scancel", "scontrol")
SCRIPT = """\
#!/bin/sh
printf '%s\\n' "$0 $*" >> {calls}
cat {stdout}
cat {stderr} >&2
exit {code}
"""


@dataclass(frozen=True)
class FakedSlurm:
    """Every command fails as an unknown one does, until it is told what to say."""

    folder: Path

    def says(self, command: str, stdout: str = "", stderr: str = "", code: int = 0) -> None:
        texts = {}
        for stream, text in (("stdout", stdout), ("stderr", stderr)):
            texts[stream] = self.folder / f"{command}.{stream}"
            texts[stream].write_text(text)
        path = self.folder / command
        path.write_text(SCRIPT.format(calls=self.folder / "calls", code=code, **texts))
        path.chmod(0o755)

    def calls(self, command: str) -> list[str]:
        """Its arguments, a line a call."""
        lines = (self.folder / "calls").read_text().splitlines() if (self.folder / "calls").exists() else []
        prefix = f"{self.folder / command} "
        return [line.removeprefix(prefix) for line in lines if line.startswith(prefix)]


def fake_slurm(folder: Path, patch: pytest.MonkeyPatch) -> FakedSlurm:
    """Puts an empty folder of commands on PATH, before /bin and /usr/bin without SLURM's own."""
    faked = folder / "bin"
    faked.mkdir()
    for system in ("/usr/bin", "/bin"):
        for command in ("cat", "sh", "env"):
            if (Path(system) / command).exists() and not (faked / command).exists():
                (faked / command).symlink_to(Path(system) / command)
    patch.setenv("PATH", str(faked))
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        patch.delenv(name)
    return FakedSlurm(faked)


def squeue_row(task: str, state: str, nodes: str = "", reason: str = "None", elapsed: str = "0:00") -> str:
    return f"{task}|{state}|{nodes}|{reason}|{elapsed}|\n"


def sacct_row(task: str, state: str, nodes: str = "n1", reason: str = "None", elapsed: str = "00:01:00") -> str:
    return f"{task}|{state}|{nodes}|{reason}|{elapsed}\n"
