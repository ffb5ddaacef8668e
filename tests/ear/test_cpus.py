"""How many CPUs a process may use, by files as Linux shows them in containers."""

import math
import os
from pathlib import Path

import pytest

from ear.config.schema import ExecutionConfig
from ear.process import cpus
from ear.process.cpus import cpu_quota, own_cgroups, usable_cpus
from ear.process.execution import worker_processes


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


QUOTAS = [
    ("0::/\n", {"": {"cpu__max": "200000 100000\n"}}, 2.0),  # docker run --cpus 2
    ("0::/\n", {"": {"cpu__max": "max 100000\n"}}, math.inf),
    ("0::/\n", {"": {}}, math.inf),  # the machine's root has no such file
    ("0::/kube/pod\n", {"kube": {"cpu__max": "150000 100000\n"}, "kube/pod": {"cpu__max": "max 100000\n"}}, 1.5),
    ("0::/user.slice\n", {"unified/user.slice": {"cpu__max": "50000 100000\n"}}, 0.5),
    ("3:cpuset:/\n1:cpu:/\n", {"cpu": {"cpu__cfs_quota_us": "-1\n", "cpu__cfs_period_us": "100000\n"}}, math.inf),
    (
        "4:cpu,cpuacct:/docker/5f2a\n0::/\n",  # of the machine; what is mounted begins there
        {"cpu,cpuacct": {"cpu__cfs_quota_us": "400000\n", "cpu__cfs_period_us": "100000\n"}},
        4.0,
    ),
    ("1:cpu:/\n", {"cpu": {"cpu__cfs_quota_us": "0\n", "cpu__cfs_period_us": "0\n"}}, math.inf),
    ("9:memory:/\n", {"memory": {"cpu__cfs_quota_us": "100000\n", "cpu__cfs_period_us": "100000\n"}}, math.inf),
]


@pytest.mark.parametrize(("listed", "mounted", "quota"), QUOTAS)
def test_the_smallest_quota_of_all_cgroups(
    listed: str, mounted: dict[str, dict[str, str]], quota: float, tmp_path: Path
) -> None:
    (tmp_path / "listed").write_text(listed)
    for folder, files in mounted.items():
        write(tmp_path / "cgroup" / folder, **files)
    assert cpu_quota(own_cgroups(tmp_path / "listed", tmp_path / "cgroup")) == quota


@pytest.mark.parametrize(("quota", "count"), [(2.0, 2), (2.9, 2), (0.5, 1), (math.inf, 64), (100.0, 64)])
def test_no_more_than_the_quota_and_at_least_one(quota: float, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    monkeypatch.setattr(cpus, "cpu_quota", lambda _: quota)
    assert usable_cpus() == count
    assert worker_processes(ExecutionConfig(workers=1000)) == count
