"""A real Slurm of two nodes for the tests of this folder."""

import os
import subprocess
from collections.abc import Iterator
from getpass import getuser
from pathlib import Path

import pytest

CLUSTER = Path(__file__).with_name("cluster")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Path]:
    """The script that steers it; SLURM_CONF leads to it while tests run. Skipped where it can't be started."""
    started = subprocess.run([CLUSTER, "start"], capture_output=True, text=True)
    if started.returncode:
        pytest.skip(f"no Slurm can be started here: {started.stderr.strip().splitlines()[-1]}")
    name, _, value = started.stdout.strip().partition("=")
    before = os.environ.get(name)
    os.environ[name] = value
    yield CLUSTER
    subprocess.run([CLUSTER, "stop"], check=True)
    if before is None:
        del os.environ[name]
    else:
        os.environ[name] = before


@pytest.fixture(autouse=True)
def _no_job_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """A job that a failed test left in the queue would take the next test's nodes."""
    yield
    if "cluster" in request.fixturenames:
        subprocess.run(["scancel", f"--user={getuser()}"], check=True)
