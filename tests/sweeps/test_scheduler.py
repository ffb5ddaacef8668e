"""What is handed out, when, and what follows from how it ended."""

import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from simulated import Hands, plan_of, publish_training, work_through

from ear.store import Store
from sweeps.driver.evaluation_batches import BATCH
from sweeps.driver.scheduler import Scheduler
from sweeps.spec.run_source import Grid

GRID = """
name: grid
seeds: [0, 1]
space:
  scoring.alpha: [1.0, 1.5]
  training.stages.-1.train_temperature: [1.0, 0.9]
  sampling.infer_temperature: [1.0, 0.9, 0.8]
"""
STAGE = "{steps: 100, learning_rate: 0.001}"


pytestmark = pytest.mark.usefixtures("no_waiting")


def begun(folder: Path, text: str = GRID, retries: int = 0) -> tuple[Scheduler, Hands]:
    store = Store(folder)
    work = Scheduler(Grid(plan_of(folder, text).runs), store, retries)
    work.start()
    return work, Hands(store)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_everything_is_done_once_and_in_order(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    work, hands = begun(tmp_path_factory.mktemp("sweep"))
    work_through([work], hands, random.Random(seed).randrange)
    assert work.done
    assert {result.state for result in work.settled.values()} == {"evaluated"}
    assert sorted(hands.trained.values()) == [1] * 12
    assert sorted(hands.evaluated.values()) == [1] * 24


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_two_drivers_share_the_work(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    folder = tmp_path_factory.mktemp("sweep")
    one, hands = begun(folder)
    other, _ = begun(folder)
    work_through([one, other], hands, random.Random(seed).randrange)
    assert one.done
    assert other.done
    assert sorted(hands.trained.values()) == [1] * 12
    assert sorted(hands.evaluated.values()) == [1] * 24


def test_a_driver_that_goes_on_does_only_what_is_missing(tmp_path: Path) -> None:
    first, hands = begun(tmp_path)
    for _ in range(5):
        task = first.next()
        assert task is not None
        hands.do(first, task)
    first.close()
    second, _ = begun(tmp_path)
    assert len(second.settled) == len(first.settled) > 0
    work_through([second], hands)
    assert second.done
    assert set(hands.trained.values()) == set(hands.evaluated.values()) == {1}


def test_what_another_command_trained_is_not_trained_again(tmp_path: Path) -> None:
    work, hands = begun(tmp_path)
    for node in work.tree.roots():
        publish_training(Store(tmp_path), node)
    work_through([work], hands)
    assert len(hands.trained) == 8  # the second stages


def test_a_divergence_is_the_result_of_everything_that_starts_from_it(tmp_path: Path) -> None:
    work, hands = begun(tmp_path)
    hands.diverge = lambda node: node.stage == 0 and node.config.scoring.alpha == 1.5  # type: ignore[union-attr]
    work_through([work], hands)
    assert work.done
    states = [(work.tree.runs[key].parameters["scoring.alpha"], each.state) for key, each in work.settled.items()]
    assert set(states) == {(1.0, "evaluated"), (1.5, "diverged")}
    assert len(hands.trained) == 8  # both seeds of 1.5 ended in their first stage


def test_faults_are_tried_again_then_recorded_and_the_rest_goes_on(tmp_path: Path) -> None:
    work, hands = begun(tmp_path, retries=2)
    tries = 0
    bad = work.tree.roots()[0].key
    while (task := work.next()) is not None:
        if task.key != bad:
            hands.do(work, task)
            continue
        tries += 1
        assert work.failed(task, "boom") is (tries < 3)
        work.ended(task)
    assert tries == 3
    assert work.done
    failed = [key for key, result in work.settled.items() if result.state == "failed"]
    assert len(failed) == 6  # two train temperatures times three inference temperatures
    assert {work.settled[key].traceback for key in failed} == {"boom"}


def test_a_faulty_evaluation_costs_no_other(tmp_path: Path) -> None:
    work, hands = begun(tmp_path)
    failed: str | None = None
    while (task := work.next()) is not None:
        if failed is None and task.runs:
            failed = task.runs[1].keys.evaluation
            publish_training(hands.store, task.node)
            work.failed(task, "boom", failed)
            work.ended(task)
        else:
            hands.do(work, task)
    assert [key for key, result in work.settled.items() if result.state == "failed"] == [failed]
    assert len(hands.evaluated) == 23


def test_a_process_lost_in_one_batch_costs_no_other(tmp_path: Path) -> None:
    values = [round(1 - index / 100, 2) for index in range(3 * BATCH)]
    work, hands = begun(tmp_path, f"name: a\nspace: {{sampling.infer_temperature: {values}}}\n")
    for node in work.tree.nodes.values():
        publish_training(hands.store, node)
    lost = work.next()
    assert lost is not None
    work.failed(lost, "killed")  # nobody knows in which evaluation
    work.ended(lost)
    work_through([work], hands)
    assert work.done
    states = [result.state for result in work.settled.values()]
    assert (states.count("failed"), states.count("evaluated")) == (BATCH, 2 * BATCH)


def test_many_evaluations_of_one_training_are_split(tmp_path: Path) -> None:
    count = 3 * BATCH
    values = [round(1 - index / 100, 2) for index in range(count)]
    work, hands = begun(tmp_path, f"name: a\nspace: {{sampling.infer_temperature: {values}}}\n")
    sizes = []
    at_work = []
    while (task := work.next()) is not None:
        sizes.append(len(task.runs))
        if task.trains:
            hands.do(work, task)
        else:
            at_work.append(task)  # all of them at the same time
    for task in at_work:
        hands.do(work, task)
    assert work.done
    assert sizes == [0, 8, 8, 8]  # the first stage has none, the last one trains and begins with eight


def test_drivers_share_the_evaluations_of_one_training(tmp_path: Path) -> None:
    values = [round(1 - index / 100, 2) for index in range(3 * BATCH)]
    text = f"name: a\nspace: {{sampling.infer_temperature: {values}}}\n"
    one, hands = begun(tmp_path, text)
    for node in one.tree.nodes.values():
        publish_training(hands.store, node)
    other, _ = begun(tmp_path, text)
    tasks = [driver.next() for driver in (one, other, one, other)]
    taken = [run.keys.evaluation for task in tasks if task is not None for run in task.runs]
    assert [task and len(task.runs) for task in tasks] == [8, 8, 8, None]
    assert len(set(taken)) == len(values)
    assert other.left_to_others()


def test_evaluations_belong_to_whoever_trains_for_them(tmp_path: Path) -> None:
    """From the start of the training to the last of them; those that it has no time for are anybody's."""
    values = [round(1 - index / 100, 2) for index in range(BATCH + 1)]
    text = f"name: a\nset: {{training.stages: [{STAGE}]}}\nspace: {{sampling.infer_temperature: {values}}}\n"
    one, hands = begun(tmp_path, text)
    other, _ = begun(tmp_path, text)
    trains = one.next()
    assert trains is not None
    assert other.next() is None
    assert not other.left_to_others()  # one evaluation more than come with the training
    publish_training(hands.store, trains.node)
    ninth = other.next()
    assert ninth is not None
    assert not ninth.trains
    assert len(ninth.runs) == 1
    assert ninth.runs[0] not in trains.runs
    assert other.next() is None
    assert other.left_to_others()


def test_leases_end_with_the_driver(tmp_path: Path) -> None:
    one, _ = begun(tmp_path)
    held = [one.next() for _ in range(4)]
    assert None not in held
    other, hands = begun(tmp_path)
    assert other.next() is None  # all four first stages are taken
    one.close()
    work_through([other], hands)
    assert other.done


def test_a_driver_knows_when_all_that_is_left_is_in_others_hands(tmp_path: Path) -> None:
    text = "name: grid\nspace: {training.stages.-1.train_temperature: [1.0, 0.9]}\n"
    one, hands = begun(tmp_path, text)
    other, _ = begun(tmp_path, text)
    assert not one.left_to_others()  # there is something to begin
    shared = one.next()
    assert shared is not None
    assert other.next() is None
    assert not other.left_to_others()  # two stages start from the one that is being trained
    hands.do(one, shared)
    first = one.next()
    assert first is not None
    assert not other.left_to_others()  # the second one is ready
    second = other.next()
    assert second is not None
    third, _ = begun(tmp_path, text)
    assert third.left_to_others()
    hands.do(one, first)
    assert third.left_to_others()
    hands.do(other, second)
    assert third.next() is None
    assert third.done
