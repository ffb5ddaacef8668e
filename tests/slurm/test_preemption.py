"""What may happen to a job, made to happen on a real Slurm (minutes): each time all is done, once, and little twice."""

import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import psutil
import pytest
from jobs import (
    ARRAY,
    GANG,
    assert_completed,
    assert_every_run_once,
    assert_nothing_left,
    attempts,
    ear,
    metrics,
    output,
    processes_of,
    slurm,
    steps_done_twice,
    submit,
    until,
    until_trained,
    write_profile,
    write_sweep,
)

from ear.store import Store
from slurm.queue import task_states
from slurm.submission import JobRecord
from sweeps.spec.plan import compile_plan

STEPS = 1500  # a minute of training for each of two runs
STEPS_OVER_THE_LIMIT = 3000  # for the tests of the time limit: more than the job trains before its first signal
STEPS_BETWEEN_CHECKPOINTS = 400  # trained in the second between two, and while one is written

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cluster")]


@pytest.fixture(autouse=True)
def _measured(digits_store: Path, tmp_path: Path) -> None:
    """The classifier and the real images' features are there, as in all but a user's first sweep."""
    shutil.copytree(digits_store, tmp_path / "store")


@pytest.fixture(scope="module")
def undisturbed(
    digits_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[int], dict[str, dict[str, float]]]:
    """What every run of the sweep comes to in one piece, on one machine, by its steps."""

    @cache
    def measured(steps: int) -> dict[str, dict[str, float]]:
        folder = tmp_path_factory.mktemp("undisturbed")
        shutil.copytree(digits_store, folder / "store")
        ear("sweep", "run", write_sweep(folder, steps), "--root", folder, timeout=900)
        return metrics(folder)

    return measured


def supervisors(record: JobRecord) -> list[psutil.Process]:
    """submitit's processes; srun names the same command."""
    return [process for process in processes_of(record, "submitit.core._submit") if process.name() != "srun"]


def asked_to_make_room(record: JobRecord, _: Path) -> None:
    slurm("scancel", "--signal=USR2", record.tasks[0])


def queued_again(record: JobRecord, _: Path) -> None:
    slurm("scontrol", "requeue", record.tasks[0])


def preempted(record: JobRecord, _: Path) -> None:
    """By a job of a partition with precedence, which takes both nodes for a moment."""
    slurm("sbatch", "--partition=urgent", "--nodes=2", "--cpus-per-task=2", "--output=/dev/null", "--wrap=sleep 5")
    until(lambda: attempts(record) > len(record.tasks), 120, "the preempted job to begin again")


def told_as_cgroups_do(record: JobRecord, _: Path) -> None:
    """Where cgroups hold a job together, SIGTERM reaches SLURM's own child alone, which is submitit, on every node."""
    for supervisor in supervisors(record)[: 2 if len(record.tasks) == 1 else 1]:  # of an array: one member's
        supervisor.terminate()


def driver_killed(record: JobRecord, _: Path) -> None:
    (driver, *_others) = [
        process for process in processes_of(record, "-m ear sweep run") if "ray::" not in process.name()
    ]
    driver.kill()


def job_killed(record: JobRecord, _: Path) -> None:
    """With -9, all that its tasks run, on both nodes: nobody can tidy up."""
    for process in [*supervisors(record), *processes_of(record, "-m ear")]:
        process.kill()


def first_node_lost(_: JobRecord, cluster: Path) -> None:
    subprocess.run([cluster, "lose", "n1"], check=True)
    time.sleep(1)
    subprocess.run([cluster, "return", "n1"], check=True)


def other_node_lost(_: JobRecord, cluster: Path) -> None:
    subprocess.run([cluster, "lose", "n2"], check=True)
    time.sleep(1)
    subprocess.run([cluster, "return", "n2"], check=True)


SAVED = (asked_to_make_room, queued_again, told_as_cgroups_do, preempted)  # in time, so that nothing is done twice
CASES = [
    (GANG, asked_to_make_room),
    (GANG, queued_again),
    (GANG, told_as_cgroups_do),
    (GANG, driver_killed),
    (GANG, job_killed),
    (GANG, first_node_lost),
    (GANG, other_node_lost),
    (ARRAY, asked_to_make_room),
    (ARRAY, queued_again),
    (ARRAY, told_as_cgroups_do),
    (ARRAY, preempted),
    (ARRAY, driver_killed),
    (ARRAY, job_killed),
    (ARRAY, first_node_lost),
]


def name_of(part: object) -> str:
    return part.__name__ if callable(part) else "gang" if part == GANG else "array"


@pytest.mark.parametrize(("profile", "disturb"), CASES, ids=name_of)
def test_disturbed_and_done(
    profile: str,
    disturb: Callable[[JobRecord, Path], None],
    undisturbed: Callable[[int], dict[str, dict[str, float]]],
    cluster: Path,
    tmp_path: Path,
) -> None:
    sweep = write_sweep(tmp_path, STEPS)
    if disturb not in SAVED:
        sweep.write_text(sweep.read_text().replace("checkpoint_every: 600", "checkpoint_every: 1"))
    record = submit("sweep", "run", sweep, "--slurm", write_profile(tmp_path, profile), root=tmp_path)
    until_trained(tmp_path, "tiny", 100)
    disturb(record, cluster)
    assert_completed(record, 600)
    assert attempts(record) > len(record.tasks), output(record)
    assert_every_run_once(tmp_path, 2)
    assert metrics(tmp_path) == undisturbed(STEPS)
    repeated = steps_done_twice(tmp_path)
    print(f"{disturb.__name__}: {attempts(record)} attempts, {repeated} logged steps done twice")
    assert repeated <= (0 if disturb in SAVED else 2 * STEPS_BETWEEN_CHECKPOINTS), output(record)
    assert_nothing_left(record, tmp_path)


@pytest.mark.parametrize("profile", [GANG, ARRAY], ids=["gang", "array"])
def test_the_time_limit(
    profile: str, undisturbed: Callable[[int], dict[str, dict[str, float]]], tmp_path: Path
) -> None:
    """Two minutes, of which the last half is for saving; submitit counts every one of these as a time-out.

    The signal comes 75 to 85 s after the start: long enough to train a little on a busy machine too.
    """
    sweep = write_sweep(tmp_path, STEPS_OVER_THE_LIMIT)
    short = profile.replace("hours: 0.5", "hours: 0.0333\nsignal_delay: 35")
    record = submit("sweep", "run", sweep, "--slurm", write_profile(tmp_path, short), root=tmp_path)
    assert_completed(record, 900)
    assert attempts(record) > len(record.tasks), output(record)
    assert_every_run_once(tmp_path, 2)
    assert metrics(tmp_path) == undisturbed(STEPS_OVER_THE_LIMIT)
    assert steps_done_twice(tmp_path) == 0, output(record)
    assert_nothing_left(record, tmp_path)


def test_drivers_with_nothing_to_do_give_their_machines_back_and_come_again(tmp_path: Path) -> None:
    """While another driver, here this test, has in hand what all the rest waits for."""
    sweep = write_sweep(tmp_path, 100)
    first_stages = [node for node in compile_plan(sweep).tree.nodes.values() if node.parent is None]
    with ExitStack() as stack:
        for node in first_stages:
            assert stack.enter_context(Store(tmp_path).lease(node.key)).acquire()
        record = submit("sweep", "run", sweep, "--slurm", write_profile(tmp_path, ARRAY), root=tmp_path)
        until(lambda: output(record).count("Nothing is ready") == 2, 300, "both drivers to find nothing to do")
        waiting = 0
        while waiting < 20:  # seconds of a minute in which SLURM may begin a member too early, which leaves at once
            waiting += all(state.waits for state in task_states(record.tasks).values())
            assert not processes_of(record, "-m ear sweep run")
            time.sleep(1)
    for rest in record.folder.glob("rest-*"):
        rest.unlink()
    for task in record.tasks:
        slurm("scontrol", "update", f"JobId={task}", "StartTime=now")
    assert_completed(record)
    assert attempts(record) == 2  # those that found nothing to do are not counted
    assert_every_run_once(tmp_path, 2)
    assert_nothing_left(record, tmp_path)
