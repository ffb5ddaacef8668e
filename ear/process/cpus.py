"""How many CPUs this process may use, which is not what the machine has."""

import math
import os
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def usable_cpus() -> int:
    """At least 1: those that it may run on, and of these no more than the quotas of its cgroups pay for.

    A container (`docker run --cpus 2`, a Kubernetes limit) sees all CPUs of its machine, and is stopped for the rest of
    each tenth of a second once it has used its share. A part of a CPU does not count.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min(allowed, cpu_quota(own_cgroups()))))


def own_cgroups(listed: Path = Path("/proc/self/cgroup"), mounted: Path = CGROUPS) -> list[Path]:
    """The folders of this process's cgroups that count CPU time, with all above them; in a container, those it sees."""
    try:
        lines = listed.read_text().splitlines()
    except OSError:
        return []
    folders = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        # Version 2 has one hierarchy; version 1 one for each controller, called after it. A container's path may be
        # the machine's, of which it sees the last folder only, as the root.
        for root in [mounted, mounted / "unified"] if not controllers else [mounted / "cpu", mounted / controllers]:
            below = Path(path.lstrip("/"))
            folders += [root / folder for folder in (below, *below.parents)]
    return folders


def cpu_quota(folders: list[Path]) -> float:
    """The smallest of their quotas in CPUs; infinite where there is none."""
    found = [math.inf]
    for folder in folders:
        try:
            if (folder / "cpu.max").exists():
                quota, period = (folder / "cpu.max").read_text().split()
            else:
                quota = (folder / "cpu.cfs_quota_us").read_text().strip()
                period = (folder / "cpu.cfs_period_us").read_text().strip()
            if quota not in ("max", "-1"):
                found.append(int(quota) / int(period))
        except (OSError, ValueError, ZeroDivisionError):
            continue
    return min(found)
