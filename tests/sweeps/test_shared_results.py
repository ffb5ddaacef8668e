"""The classifier that a sweep's evaluations share, trained by a process of its own beside the trials."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from simulated import plan_of

from ear.errors import UserError
from ear.store import Store
from sweeps.driver.shared_results import computed_meanwhile, shared_results
from sweeps.spec.plan import Plan
from sweeps.trial.trainable import StopRequestedError

SWEEP = "name: shared\nspace: {scoring.alpha: [1.0, 1.5]}\n"


@pytest.fixture
def no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def started(*_: object, **__: object) -> None:
        pytest.fail("a process was started")

    monkeypatch.setattr(subprocess, "Popen", started)


def beside(driver: int | None = None) -> list[psutil.Process]:
    children = psutil.Process(driver).children()
    return [child for child in children if "sweeps.driver.shared_results" in child.cmdline()]


def shared_keys(plan: Plan) -> tuple[str, str]:
    return plan.runs[0].keys.extractor, plan.runs[0].keys.reference


def wait_for_its_lease(store: Store) -> None:
    deadline = time.monotonic() + 60
    while not list((store.work / "leases").glob("*.lease")):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_it_is_trained_beside_the_trials_once(digits_store: Path, tmp_path: Path) -> None:
    """Here only the features are missing: the classifier takes long."""
    plan, store = plan_of(tmp_path, SWEEP), Store(tmp_path)
    extractor, reference = shared_keys(plan)
    shutil.copytree(digits_store / extractor, store.path(extractor))
    with shared_results(plan, tmp_path, store):
        (process,) = beside()
        assert process.wait(120) == 0
    assert reference in store
    made, known = (folder / reference / "features.safetensors" for folder in (store.folder, digits_store))
    assert made.read_bytes() == known.read_bytes()


def test_who_leaves_early_ends_it_and_its_lease(tmp_path: Path) -> None:
    plan, store = plan_of(tmp_path, SWEEP), Store(tmp_path)
    extractor, _ = shared_keys(plan)
    with shared_results(plan, tmp_path, store):
        assert beside()
        wait_for_its_lease(store)
        assert not store.lease(extractor).acquire()
    assert not beside()
    assert store.published() == set()
    assert not list((store.work / "leases").glob("*.lease"))


@pytest.mark.parametrize("seconds", [0.3, 0.8, 1.3])
def test_it_ends_by_itself_while_it_imports(seconds: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver does not have to kill it. An exception would mostly end it too, but imports can swallow it."""
    started: list[subprocess.Popen[str]] = []
    start = subprocess.Popen

    def recording(*arguments: Any, **options: Any) -> subprocess.Popen[str]:
        started.append(start(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", recording)
    with computed_meanwhile(plan_of(tmp_path, SWEEP).runs[:1], tmp_path):
        time.sleep(seconds)
    assert started[0].returncode in (1, -signal.SIGTERM)


def test_an_evaluation_that_needs_it_waits_and_stops_when_asked(tmp_path: Path) -> None:
    """Also where the other process ends meanwhile: what it left would take long, and could not be stopped."""
    plan, store = plan_of(tmp_path, SWEEP), Store(tmp_path)
    extractor, _ = shared_keys(plan)
    asked = []

    def ask() -> None:
        asked.append(True)
        if len(asked) == 2:
            (process,) = beside()
            process.kill()
        if len(asked) == 3:
            raise StopRequestedError

    with shared_results(plan, tmp_path, store):
        wait_for_its_lease(store)
        with pytest.raises(StopRequestedError):
            Store(tmp_path, on_wait=ask).get_or_create(extractor, "extractor", lambda _: pytest.fail("computed"))
    assert store.lease(extractor).acquire()  # of a dead process of this machine: at once


DRIVER = """
import sys, time
from pathlib import Path
from ear.store import Store
from sweeps.driver.shared_results import shared_results
from sweeps.spec.plan import compile_plan
root = Path(sys.argv[1])
with shared_results(compile_plan(root / "sweep.yaml"), root, Store(root)):
    time.sleep(100)
"""


def test_it_ends_with_a_driver_that_is_killed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    extractor, _ = shared_keys(plan_of(tmp_path, SWEEP))
    with subprocess.Popen([sys.executable, "-c", DRIVER, str(tmp_path)]) as driver:
        wait_for_its_lease(store)
        (process,) = beside(driver.pid)
        driver.kill()
    process.wait(10)
    assert not list((store.work / "leases").glob("*.lease"))  # released, for drivers on other machines
    assert extractor not in store


@pytest.mark.usefixtures("no_process")
def test_what_is_there_is_only_loaded(digits_store: Path, tmp_path: Path) -> None:
    shutil.copytree(digits_store, tmp_path / "store")
    with shared_results(plan_of(tmp_path, SWEEP), tmp_path, Store(tmp_path)):
        pass


@pytest.mark.usefixtures("no_process")
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("evaluation.statistics: {}", "wrong can't be read as an npz file"),
        ("evaluation.extractor: inception-v3-compat, evaluation.extractor_weights: {}", "wrong"),
    ],
    ids=["statistics", "weights"],
)
def test_files_of_the_user_are_read_before_any_trial(
    settings: str, message: str, digits_store: Path, tmp_path: Path
) -> None:
    """They may be wrong, and then no training should have begun."""
    shutil.copytree(digits_store, tmp_path / "store")
    (tmp_path / "wrong").write_text("neither statistics nor weights")
    plan = plan_of(tmp_path, f"{SWEEP}set: {{{settings.format(tmp_path / 'wrong')}}}\n")
    with pytest.raises(UserError, match=message), shared_results(plan, tmp_path, Store(tmp_path)):
        pass


def test_a_gpu_that_is_not_there_is_refused_at_once(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, f"{SWEEP}set: {{execution.device: cuda}}\n")
    with pytest.raises(UserError, match="torch sees no GPU here"), shared_results(plan, tmp_path, Store(tmp_path)):
        pass
    assert not beside()


def test_settings_that_no_evaluation_can_meet_are_refused_at_once(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, f"{SWEEP}set: {{evaluation.images: 20, evaluation.neighbours: 30}}\n")
    with (
        pytest.raises(UserError, match="need more images than neighbours"),
        shared_results(plan, tmp_path, Store(tmp_path)),
    ):
        pass
    assert not beside()


@pytest.mark.usefixtures("no_process")
def test_with_gpus_it_comes_first(digits_store: Path, tmp_path: Path) -> None:
    """A trial may fill their memory."""
    plan, store = plan_of(tmp_path, f"{SWEEP}resources: {{gpus: 1}}\n"), Store(tmp_path)
    extractor, reference = shared_keys(plan)
    shutil.copytree(digits_store / extractor, store.path(extractor))
    with shared_results(plan, tmp_path, store):
        assert reference in store
