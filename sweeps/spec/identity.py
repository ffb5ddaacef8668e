"""Which sweep it is: its name, and what makes it one and the same."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class SweepIdentity:
    """What makes a sweep one and the same, and what its parent run says of it."""

    name: str
    digest: str
    axes: tuple[str, ...]  # dotted parameters
    objectives: tuple[str, ...]  # the metrics that rank
    source: Path  # its YAML
    resolved: dict[str, Any]  # all of its settings

    @property
    def user(self) -> str:
        """As whom it needs results in the store: another sweep that had its name needs its own."""
        return f"{user_of(self.name)}/{self.digest[:8]}"


def user_of(name: str) -> str:
    """All sweeps of this name, as users of the store."""
    return f"sweep {name}"
