"""What holds for all tests, and how the workers of pytest-xdist share them."""

import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from made_once import made_once

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.scheduler.protocol import Scheduling

if "PYTEST_XDIST_WORKER" in os.environ:
    # Workers share the cores. EAR itself computes with execution.threads, so that no number depends on this.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# An example takes how long it takes: the other worker, or whatever else the machine does, is no fault of it.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

SLURM, RAY = "slurm", "ray"
CLUSTERS = {  # what starts one -> its kind
    "tests/slurm/test_preemption.py": SLURM,
    "tests/slurm/test_sweeps_on_slurm.py": SLURM,
    "tests/slurm/test_training_on_slurm.py": SLURM,
    "tests/sweeps/test_demo.py": RAY,
    "tests/sweeps/test_end_to_end.py": RAY,
    "tests/sweeps/test_faults.py": RAY,
    "tests/sweeps/test_kills.py": RAY,
    "tests/sweeps/test_ray_cluster.py": RAY,
    "tests/sweeps/test_search_end_to_end.py": RAY,
    "tests/sweeps/test_trial_processes.py": RAY,
}


def scope_of(nodeid: str) -> str:
    """What one worker runs in one piece: a file, whose fixtures are then made once, or all that start a cluster.

    A machine can have one Slurm, and Ray clusters that shared two cores with each other would only take longer. Slurm's
    tests and Ray's mostly wait for processes of their own, so a third worker runs the rest beside them on two cores.
    """
    file = nodeid.partition("::")[0]
    return CLUSTERS.get(file, file)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: "Producer") -> "Scheduling | None":
    if config.option.dist != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class ClustersInOnePiece(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return scope_of(nodeid)

    return ClustersInOnePiece(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Clusters first: they take longest, and a worker that began with them last would leave the other idle."""
    first = {SLURM: 0, RAY: 1}
    items.sort(key=lambda item: first.get(scope_of(item.nodeid), 2))


@pytest.fixture(autouse=True, scope="session")
def _own_memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Hashes of files are remembered there and not in the home of whoever tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("memory")))
        yield


@pytest.fixture(autouse=True, scope="session")
def _nothing_waits_for_the_disk() -> Iterator[None]:
    """No test cuts the power, and a flush takes 5 ms, of which a simulated search makes a thousand.

    Programs that a test starts flush as users' do; test_store_publishing.py sees what is flushed, and in which order.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(scope="session")
def digits_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `store` folder that holds the digits' classifier and the real images' features in it. Not to be changed."""

    def measure(root: Path) -> None:
        from ear.config import load_config
        from ear.data import load_dataset
        from ear.evaluation.extractors import load_extractor
        from ear.evaluation.reference import load_reference
        from ear.store import Store, reference_keys

        config, store = load_config("digits"), Store(root)
        dataset = load_dataset(config.data)
        extractor, reference = reference_keys(config, dataset)
        judge = load_extractor(config.evaluation, extractor, dataset, store)
        load_reference(config, reference, dataset, judge, store)

    return made_once("digits", measure, tmp_path_factory) / "store"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where EAR_NO_SKIPS=1 says that everything must run, a test that is skipped (no Slurm, no disk to mount) fails."""
    report = yield
    if report.skipped and os.environ.get("EAR_NO_SKIPS") == "1" and not hasattr(report, "wasxfail"):
        _, _, reason = report.longrepr if isinstance(report.longrepr, tuple) else ("", 0, str(report.longrepr))
        report.outcome = "failed"
        report.longrepr = f"{reason} (EAR_NO_SKIPS=1: nothing may be skipped here)"
    return report
