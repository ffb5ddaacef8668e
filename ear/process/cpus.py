"""The number of CPUs that this process may use, which can be less than the machine has."""

import math
import os
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def usable_cpus() -> int:
    """The number of CPUs that this process may run on, limited by the quotas of its cgroups; at least 1.

    A container (`docker run --cpus 2`, a Kubernetes limit) sees all CPUs of its machine, but is suspended for the rest
    of each tenth of a second once it has used its quota. Fractions of a CPU are rounded down.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min(allowed, cpu_quota(own_cgroups()))))


def own_cgroups(listed: Path = Path("/proc/self/cgroup"), mounted: Path = CGROUPS) -> list[Path]:
    """The folders of this process's cgroups that limit CPU time, and all visible ones above them."""
    try:
        lines = listed.read_text().splitlines()
    except OSError:
        return []
    folders = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        # Version 2 has one hierarchy; version 1 has one for each controller, with its name. In a container the path may
        # be the machine's, of which only the last folder is visible, as the root.
        for root in [mounted, mounted / "unified"] if not controllers else [mounted / "cpu", mounted / controllers]:
            below = Path(path.lstrip("/"))
            folders += [root / folder for folder in (below, *below.parents)]
    return folders


def cpu_quota(folders: list[Path]) -> float:
    """The smallest quota of these cgroups in CPUs; infinite if there is none."""
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
