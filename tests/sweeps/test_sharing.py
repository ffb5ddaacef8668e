"""Sharing changes what is computed, not what comes out: on a CPU, to the last bit."""

import shutil
from pathlib import Path

import pytest
from simulated import plan_of

from ear.run import Run
from ear.store import Store
from sweeps.spec.runs import PlannedRun

GRID = """
name: shared
set:
  training.stages.0.steps: 30
  training.stages.1.steps: 10
  optimizer.warmup_steps: 5
  evaluation.images: 200
  evaluation.null_images: 100
space:
  training.stages.-1.train_temperature: [1.0, 0.9]
  sampling.infer_temperature: [1.0, 0.9]
  evaluation.seed: [0, 1]
"""


def measured(run: PlannedRun, store: Store) -> dict[str, float]:
    carried_out = Run(run.config, store)
    carried_out.train()
    return carried_out.evaluate().metrics


@pytest.fixture(scope="module")
def shared(
    digits_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Store, list[tuple[PlannedRun, dict[str, float]]]]:
    """All runs of the grid on one store."""
    folder = tmp_path_factory.mktemp("shared")
    shutil.copytree(digits_store, folder / "store")
    plan, store = plan_of(folder, GRID), Store(folder)
    return store, [(run, measured(run, store)) for run in plan.runs]


def test_shared_and_unshared_runs_give_the_same_numbers(
    shared: tuple[Store, list[tuple[PlannedRun, dict[str, float]]]], tmp_path: Path
) -> None:
    store, results = shared
    assert sum(store.entry(key).kind == "training" for key in store.published()) == 3  # of 16 stages
    for number, (run, metrics) in enumerate(results):
        alone = Store(tmp_path / str(number))
        for key in (run.keys.extractor, run.keys.reference):  # the same for all, and seconds to make
            shutil.copytree(store.path(key), alone.path(key))
        assert measured(run, alone) == metrics


def test_values_of_an_evaluation_parameter_share_their_noise(
    shared: tuple[Store, list[tuple[PlannedRun, dict[str, float]]]],
) -> None:
    """A curve over the inference temperature is smooth: a small step changes FID by far less than other noise does."""
    values = {
        (run.config.sampling.infer_temperature, run.config.evaluation.seed): each["fid"] for run, each in shared[1][:4]
    }
    step = abs(values[1.0, 0] - values[0.9, 0])
    noise = abs(values[1.0, 0] - values[1.0, 1])
    assert 0 < step < noise / 20
