"""Searches that several drivers carry out, or one after another: what each comes to know, what survives a kill."""

import random
from pathlib import Path

import pytest
from searching import (
    EXTRAS,
    PROPOSALS,
    STOPPING,
    one_after_another,
    searching,
    states,
    text,
)
from simulated import plan_of, work_through

from sweeps.search.study_summary import ends_without_result, studied_runs

pytestmark = pytest.mark.usefixtures("no_waiting")


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_search_that_is_killed_anywhere_proposes_what_it_would_have(sampler: str, tmp_path: Path) -> None:
    yaml = text(sampler, trials=6)
    (tmp_path / "whole").mkdir()
    undisturbed, work, hands = searching(tmp_path / "whole", yaml)
    tasks = one_after_another(work, hands)
    wanted = [trial.params for trial in undisturbed.study.trials()]
    killed = tmp_path / "killed"
    killed.mkdir()
    trained = evaluated = 0
    for _ in range(tasks):
        search, work, hands = searching(killed, yaml)
        one_after_another(work, hands, most=1)
        trained += sum(hands.trained.values())
        evaluated += sum(hands.evaluated.values())
        work.next()  # something is at work when the driver dies; its leases die with it
        for lease in work._leases.values():
            lease.release()
    assert [trial.params for trial in search.study.trials()] == wanted
    assert states(search) == ["COMPLETE"] * len(wanted)
    assert trained == 2 * (6 + 2 * 3)
    assert evaluated == len(wanted) + 2 * 3


def test_what_is_stopped_waits_for_the_next_driver(tmp_path: Path) -> None:
    search, work, hands = searching(tmp_path, text())
    one_after_another(work, hands, most=3)
    tasks = [work.next() for _ in range(3)]
    assert None not in tasks
    number = len(search.study.trials())
    work.close()
    assert "RUNNING" not in states(search)
    assert "WAITING" in states(search)
    again, work, _ = searching(tmp_path, text())
    assert len(again.study.trials()) == number
    work_through([work], hands)
    assert states(again) == ["COMPLETE"] * PROPOSALS * (1 + EXTRAS)


def test_two_drivers_share_a_search(tmp_path: Path) -> None:
    one, first, hands = searching(tmp_path, text())
    other, second, _ = searching(tmp_path, text())
    work_through([first, second], hands)
    assert states(one) == states(other) == ["COMPLETE"] * PROPOSALS * (1 + EXTRAS)
    assert set(hands.trained.values()) == set(hands.evaluated.values()) == {1}


@pytest.mark.parametrize("seed", range(3))
def test_every_driver_comes_to_know_all_runs(seed: int, tmp_path: Path) -> None:
    """One of them writes MLflow for all, and so does whoever calls the same command afterwards."""
    _, first, hands = searching(tmp_path, text())
    _, second, _ = searching(tmp_path, text())
    work_through([first, second], hands, random.Random(seed).randrange)
    search, later, _ = searching(tmp_path, text())
    assert later.next() is None
    assert first.settled == second.settled == later.settled
    assert len(later.settled) == PROPOSALS * (1 + EXTRAS) + 6
    roles = [search.tags(run)["ear.role"] for run in later.tree.runs.values()]
    assert [roles.count(role) for role in ("proposal", "extra", "confirmation")] == [12, 24, 6]


def test_what_one_driver_gives_up_no_other_begins(tmp_path: Path) -> None:
    """Stopped early or failed in the end, it leaves nothing in the store; the study says how it ended."""
    _, work, hands = searching(tmp_path, text(more=STOPPING, trials=2))
    while (task := work.next()) is not None:
        work.reported(task, 300, 10.0)
        hands.do(work, task)
    _, work, _ = searching(tmp_path, text(more=STOPPING, trials=4))
    stopped, failing = work.next(), work.next()
    assert stopped is not None
    assert failing is not None
    _, other, _ = searching(tmp_path, text(more=STOPPING, trials=4))
    assert other.next() is None  # both are worked on
    assert work.reported(stopped, 300, 1000.0)
    work.ended(stopped)
    work.failed(failing, "Traceback\nValueError: boom", final=True)
    work.ended(failing)
    assert other.next() is None
    assert other.done
    ends = [result for result in other.settled.values() if result.state != "evaluated"]
    assert {(end.state, end.traceback) for end in ends} == {("pruned", ""), ("failed", "Traceback\nValueError: boom")}
    assert other.settled == work.settled


SEEDS = "seeds: [0, 1, 2]"


def test_faults_of_one_seed_are_known_to_all_and_its_other_seeds_are_not_lost(tmp_path: Path) -> None:
    yaml = text(trials=1, top=SEEDS, more="  confirmation: null\n")
    search, work, hands = searching(tmp_path, yaml)
    failing = work.next()
    assert failing is not None
    _, other, _ = searching(tmp_path, yaml)
    work.failed(failing, "boom", final=True)
    work.ended(failing)
    assert states(search) == ["RUNNING"]  # two seeds go on
    work_through([other, work], hands)
    assert states(search)[0] == "FAIL"  # another driver may have made up for it by a second one
    assert other.settled == work.settled
    ends = [end.state for key, end in work.settled.items() if search.tags(work.tree.runs[key])["ear.trial"] == "0"]
    assert sorted(ends) == ["evaluated", "evaluated", "failed"]
    assert failing.node.key not in hands.trained
    again, later, _ = searching(tmp_path, yaml)
    assert {run.seed for run in later.tree.runs.values() if again.tags(run)["ear.trial"] == "0"} == {1, 2}


def test_what_failed_is_tried_again_by_the_next_call(tmp_path: Path) -> None:
    """In a space of few points the same one comes again."""
    space = "  space: {model.depth: {choice: [2, 3]}}\n"
    yaml = text("random", space=space, trials=3, more="  confirmation: null\n").replace(
        "evaluations: 2", "evaluations: 0"
    )
    search, work, _ = searching(tmp_path, yaml)
    while (task := work.next()) is not None:
        work.failed(task, "a broken GPU", final=True)
        work.ended(task)
    assert set(states(search)) == {"FAIL"}
    search, work, hands = searching(tmp_path, yaml)
    assert not work.settled
    work_through([work], hands)
    assert {result.state for result in work.settled.values()} == {"evaluated"}
    assert states(search).count("COMPLETE") >= 3


def test_the_study_tells_what_ended_without_a_result(tmp_path: Path) -> None:
    yaml = text(more=STOPPING, trials=3, top="seeds: [0, 1]")
    _, work, hands = searching(tmp_path, yaml)
    values = iter([10.0, 11.0, 1000.0])
    while (task := work.next()) is not None:
        first = task.trains and task.node.parent is None and task.node.config.seed == 0
        if first and work.reported(task, 300, next(values)):
            work.ended(task)
        else:
            hands.do(work, task)
    plan = plan_of(tmp_path, yaml)
    ends = ends_without_result(plan.sweep, plan.configurations, tmp_path / "s")
    assert sorted(ends.values()) == ["not begun", "pruned"]
    known = {run.keys.evaluation for run in studied_runs(plan.sweep, plan.configurations, tmp_path / "s")}
    assert known == {*work.tree.runs, *ends}


def test_a_journal_with_a_torn_last_line_goes_on(tmp_path: Path) -> None:
    search, work, hands = searching(tmp_path, text(trials=4))
    one_after_another(work, hands, most=4)
    work.close()
    with search.study.path.open("ab") as journal:
        journal.write(b'{"op_code": 4, "worker_')  # a machine that lost power
    again, work, _ = searching(tmp_path, text(trials=4))
    work_through([work], hands)
    assert states(again) == ["COMPLETE"] * 4 * (1 + EXTRAS)
