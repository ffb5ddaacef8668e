"""The identity of a sweep: its name, and a digest of what it computes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class SweepIdentity:
    """What identifies a sweep, and what its MLflow parent run records about it."""

    name: str
    digest: str
    axes: tuple[str, ...]  # dotted parameters
    objectives: tuple[str, ...]  # the metrics that rank
    source: Path  # its YAML
    resolved: dict[str, Any]  # all of its settings
    description: str = ""  # the sweep's `description`; not part of the digest
    tags: Mapping[str, str] = field(default_factory=dict)  # the sweep's `tags`; not part of the digest

    @property
    def user(self) -> str:
        """The sweep's name as a user of store results; includes the digest, since sweeps may share a name."""
        return f"{user_of(self.name)}/{self.digest[:8]}"


def user_of(name: str) -> str:
    """Returns the name under which all sweeps of this name use the store."""
    return f"sweep {name}"
