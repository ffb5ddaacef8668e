"""Searches of which a repair removed results: they are measured anew, and steer nothing meanwhile."""

import json
from pathlib import Path
from typing import Any

import pytest
from searching import bowl, searching, states, text
from simulated import Hands, plan_of, publish_evaluation, work_through

from analysis.report import write_report
from analysis.sound_results import refuse_damaged_search
from ear.errors import UserError
from ear.store import Store
from ear.store.repair import REMOVED
from sweeps.driver.run_sweep import run_sweep
from sweeps.driver.scheduler import Scheduler
from sweeps.search.search import Search
from sweeps.search.study_summary import describe
from sweeps.spec.runs import PlannedRun
from sweeps.tracking.tracker import Tracker

pytestmark = pytest.mark.usefixtures("no_waiting")

FEW = text("tpe", trials=4)
MORE = text("tpe", trials=6)


def remove(store: Store, keys: list[str]) -> None:
    """As a repair does, whatever is damaged."""
    for key in keys:
        if key in store:
            store.path(key).rename(store.folder.parent / key)
    (store.folder / REMOVED).write_text(json.dumps(keys))


def run_of(search: Search, number: int) -> PlannedRun:
    trial = search.study.trial(number)
    return search._configurations.run(trial.params, 0)


def through(folder: Path, yaml: str, **hands: Any) -> tuple[Search, Scheduler, Hands]:
    search, work, carrying = searching(folder, yaml, **hands)
    work_through([work], carrying)
    assert work.done
    return search, work, carrying


def test_what_comes_out_as_before_lets_the_search_go_on(tmp_path: Path) -> None:
    search, _, hands = through(tmp_path, FEW)
    best = run_of(search, search.best()[0].number)
    before = search.study.trials()
    again = search.study.noted("confirmation")
    remove(hands.store, [best.keys.evaluation, *again[0]["runs"]])
    search, work, hands = searching(tmp_path, MORE)
    (task,) = [work.next()]
    assert task is not None
    while len(search.study.trials()) == len(before):  # until it goes on, with what was removed
        hands.do(work, task)
        task = work.next()
        assert task is not None
    assert best.keys.evaluation in hands.evaluated
    assert {*again[0]["runs"]} <= {*hands.evaluated}
    hands.do(work, task)
    work_through([work], hands)
    search.require_sound()
    assert search.study.trials()[: len(before)] == before
    assert states(search).count("COMPLETE") == 6 * 3
    assert {*again[0]["runs"]} <= {*work.settled}  # of the former best, too: MLflow shows them
    assert set(hands.evaluated.values()) == {1}


@pytest.mark.parametrize("kind", ["a value", "a divergence", "a divergence now"])
def test_what_comes_out_otherwise_refuses_the_search_and_its_report(kind: str, tmp_path: Path) -> None:
    """Trial 1 was damaged, and looked better, or worse, than it is."""
    steps = iter(range(100))

    def damaged(run: PlannedRun) -> float:
        return 1.0 if next(steps) == 3 else bowl(run)  # after trial 0 and its two others

    wrong: dict[str, Any] = {"fid": damaged}
    if kind == "a divergence":
        wrong = {"diverge": lambda _: True}
    search, _, hands = through(tmp_path, FEW, **wrong)
    number = next(n for n, trial in enumerate(search.study.trials()) if kind == "a divergence" or trial.values == [1.0])
    run = run_of(search, number)
    count = len(search.study.trials())
    remove(hands.store, [*run.keys.stages, run.keys.evaluation])
    wrong = {"diverge": lambda node: node.key in run.keys.stages} if kind == "a divergence now" else {}
    search, work, hands = through(tmp_path, MORE, **wrong)
    assert hands.trained[run.keys.training] + hands.trained[run.keys.stages[0]] >= 1
    assert len(search.study.trials()) == count  # nothing is proposed from damage
    with pytest.raises(UserError, match=rf"influenced the search 's'.*trials? (\d+, )*{number}\b.*Rename the sweep"):
        search.require_sound()
    work.close()
    with pytest.raises(UserError, match="influenced the search 's'"):
        searching(tmp_path, MORE)
    with pytest.raises(UserError, match="influenced the search 's'"):
        refuse_damaged_search("s", tmp_path)
    if kind == "a value":
        other, _, hands = through(tmp_path, FEW.replace("name: s", "name: other"))
        other.require_sound()
        refuse_damaged_search("other", tmp_path)
        assert run.keys.evaluation not in hands.evaluated


def test_several_drivers_measure_it_once_and_all_refuse(tmp_path: Path) -> None:
    search, _, hands = through(tmp_path, FEW, fid=lambda run: bowl(run) - 3)
    remove(hands.store, [run_of(search, number).keys.evaluation for number in range(3)])
    one, first, hands = searching(tmp_path, MORE)
    other, second, _ = searching(tmp_path, MORE)
    work_through([first, second], hands)
    assert set(hands.evaluated.values()) == {1}
    assert len(hands.evaluated) == 3
    for each in (one, other):
        with pytest.raises(UserError, match="trials 0, 1, 2,"):
            each.require_sound()


def test_what_fails_anew_is_tried_again_before_anything_is_proposed(tmp_path: Path) -> None:
    search, _, hands = through(tmp_path, FEW)
    count = len(search.study.trials())
    remove(hands.store, [run_of(search, 0).keys.evaluation])
    search, work, _ = searching(tmp_path, MORE)
    task = work.next()
    assert task is not None
    work.failed(task, "boom", final=True)
    work.ended(task)
    assert work.next() is None
    assert work.done
    assert len(search.study.trials()) == count
    search.require_sound()
    work.close()
    search, _, _ = through(tmp_path, MORE)
    assert states(search).count("COMPLETE") == 6 * 3


def pictures(store: Store, run: PlannedRun) -> None:
    for name in ("samples.png", "samples_null.png"):
        (store.path(run.keys.evaluation) / name).write_bytes(b"")


@pytest.mark.usefixtures("database")
def test_the_command_and_the_report_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ear.run.from_tensors", lambda _: [])  # simulated trainings leave no curves
    monkeypatch.setattr("ear.run.load_part", lambda *_: {})
    yaml = text("random", trials=2, more="  confirmation: null\n").replace("evaluations: 2", "evaluations: 0")
    search, work, hands = through(tmp_path, yaml)
    tracker = Tracker(plan_of(tmp_path, yaml).identity, hands.store, tmp_path)
    for run in work.tree.runs.values():
        pictures(hands.store, run)
        tracker.finish(run, search.tags(run))
    assert tracker.close(complete=True)
    damaged = run_of(search, 1)
    remove(hands.store, [damaged.keys.evaluation])
    with pytest.raises(UserError, match=r"1 of these results were damaged.*run the sweep again"):
        write_report("s", tmp_path)
    publish_evaluation(hands.store, damaged, fid=99.0)  # by whomever
    pictures(hands.store, damaged)
    with pytest.raises(UserError, match=r"influenced the search 's'.* trial 1,"):
        run_sweep(plan_of(tmp_path, yaml), tmp_path)
    with pytest.raises(UserError, match=r"influenced the search 's'.* trial 1,"):  # MLflow is right
        write_report("s", tmp_path)
    assert any("influenced" in line for line in describe(plan_of(tmp_path, yaml).sweep, tmp_path / "s"))
