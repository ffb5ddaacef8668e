"""Sweeps on a real Slurm of two nodes: over both of them, and by an array of drivers."""

import json
import re
import shutil
import time
from pathlib import Path

import pytest
from jobs import (
    ARRAY,
    GANG,
    assert_completed,
    assert_every_run_once,
    assert_nothing_left,
    ear,
    hosts,
    metrics,
    mlflow_runs,
    output,
    steps_done_twice,
    submit,
    until_over,
    until_trained,
    write_profile,
    write_sweep,
)

STEPS = 700  # long enough for the second node or trial to have begun before the first has done everything

pytestmark = pytest.mark.usefixtures("cluster")


@pytest.fixture
def _measured(digits_store: Path, tmp_path: Path) -> None:
    """The classifier and the real images' features are there, as in all but a user's first sweep."""
    shutil.copytree(digits_store, tmp_path / "store")


@pytest.fixture(scope="module")
def on_a_laptop(digits_store: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, float]]:
    """What every run of the sweep comes to without SLURM."""
    folder = tmp_path_factory.mktemp("laptop")
    shutil.copytree(digits_store, folder / "store")
    ear("sweep", "run", write_sweep(folder, STEPS), "--root", folder)
    return metrics(folder)


@pytest.mark.parametrize("profile", [GANG, ARRAY], ids=["gang", "array"])
def test_the_same_numbers_as_on_a_laptop_from_both_nodes(
    profile: str, on_a_laptop: dict[str, dict[str, float]], tmp_path: Path
) -> None:
    """With the classifier and the real images' features still to be made: two drivers share that too."""
    sweep = write_sweep(tmp_path, STEPS)
    record = submit("sweep", "run", sweep, "--slurm", write_profile(tmp_path, profile), root=tmp_path)
    assert_completed(record)
    assert metrics(tmp_path) == on_a_laptop
    assert_every_run_once(tmp_path, 2)
    assert hosts(tmp_path) == {"n1", "n2"}
    named = [json.loads(run.data.tags["ear.hosts"]) for run in mlflow_runs(tmp_path)[1]]
    assert set().union(*named) == {"n1", "n2"}
    assert_nothing_left(record, tmp_path)


@pytest.mark.slow
@pytest.mark.usefixtures("_measured")
@pytest.mark.parametrize("profile", [GANG, ARRAY], ids=["gang", "array"])
def test_cancelled_and_submitted_again(profile: str, tmp_path: Path) -> None:
    sweep, path = write_sweep(tmp_path, 2000), write_profile(tmp_path, profile)
    record = submit("sweep", "run", sweep, "--slurm", path, root=tmp_path)
    until_trained(tmp_path, "tiny", 50)
    told = ear("slurm", "cancel", record.id, "--root", tmp_path)
    assert f"ear sweep run {sweep}" in told
    began = time.monotonic()
    assert {state.state for state in until_over(record, 60)} == {"CANCELLED"}
    assert time.monotonic() - began < 20  # Slurm's grace period, here
    assert "RUNNING" not in {run.info.status for runs in mlflow_runs(tmp_path) for run in runs}
    assert_nothing_left(record, tmp_path)

    again = submit("sweep", "run", sweep, "--slurm", path, root=tmp_path)
    assert_completed(again)
    assert_every_run_once(tmp_path, 2)
    assert steps_done_twice(tmp_path) == 0, output(record)  # all was saved in the grace period


@pytest.mark.usefixtures("_measured")
@pytest.mark.parametrize(
    ("gpus", "shares"),
    [
        (1, {"0", "1"}),
        pytest.param(0.5, {"0"}, marks=pytest.mark.slow),
        pytest.param(2, {"0,1"}, marks=pytest.mark.slow),
    ],
    ids=["one each", "both on one", "both for each"],  # not `str`: two processes write a set in different orders
)
def test_trials_see_the_gpus_that_are_theirs(gpus: float, shares: set[str], tmp_path: Path) -> None:
    """Two devices stand for GPUs, which torch does not see: one each, both on the same, both for each."""
    sweep = write_sweep(tmp_path, STEPS)  # the trials must overlap: one that ends early frees its GPU for the other
    sweep.write_text(f"{sweep.read_text()}resources: {{gpus: {gpus}}}\n")
    profile = write_profile(tmp_path, "cpus_per_node: 2\ngpus_per_node: test:2\nhours: 0.5\n")
    record = submit("sweep", "run", sweep, "--slurm", profile, root=tmp_path)
    assert_completed(record)
    logs = "".join(log.read_text() for log in (tmp_path / "tiny" / "logs").glob("*.log"))
    assert {",".join(sorted(seen.split(","))) for seen in re.findall(r"GPU (\S+)", logs)} == shares, logs
    assert ("joins the training" in logs) == (gpus == 2)
    assert_nothing_left(record, tmp_path)
