"""Searches with the real Optuna and a simulated training: what is proposed, what is told, what survives a kill."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState
from simulated import Hands, plan_of, work_through

from ear.errors import UserError
from ear.store import Store
from sweeps import work as work_module
from sweeps.runs import PlannedRun, RunResult
from sweeps.search.outcome import ends_without_result, studied_runs
from sweeps.search.search import Search
from sweeps.work import Work

SPACE = """
  space:
    scoring.alpha: {uniform: [1.0, 1.9]}
    optimizer.generator_lr_scale: {log_uniform: [0.05, 1.0]}
    sampling.infer_temperature: {uniform: [0.5, 1.0]}
"""
PROPOSALS, EXTRAS = 12, 2
STATISTICS = "statistics.npz"
SAMPLERS = ("random", "tpe", "gp", "nsga2")


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work_module, "SECONDS_BETWEEN_TRIES", 0.0)


def text(sampler: str = "tpe", more: str = "", space: str = SPACE, trials: int = PROPOSALS, top: str = "") -> str:
    head = f"name: s\n{top}\nsearch:\n  sampler: {sampler}\n  trials: {trials}\n  evaluations: {EXTRAS}\n"
    return f"{head}{more}{space}"


def searching(folder: Path, yaml: str, **hands: Any) -> tuple[Search, Work, Hands]:
    plan, store = plan_of(folder, yaml), Store(folder)
    search = Search(plan.sweep, plan.configurations, folder, store)
    work = Work(search, store, retries=0)
    work.start()
    return search, work, Hands(store, **{"fid": bowl, **hands})


def bowl(run: PlannedRun) -> float:
    """Best at alpha 1.3, generator 0.3, infer temperature 0.8."""
    scoring: Any = run.config.scoring
    scale, temperature = run.config.optimizer.generator_lr_scale, run.config.sampling.infer_temperature
    return 10 + 40 * (scoring.alpha - 1.3) ** 2 + 10 * (scale - 0.3) ** 2 + 20 * (temperature - 0.8) ** 2


def states(search: Search) -> list[str]:
    return [trial.state.name for trial in search.study.trials()]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_trial_is_told_once_and_extras_share_their_training(sampler: str, tmp_path: Path) -> None:
    search, work, hands = searching(tmp_path, text(sampler))
    work_through([work], hands)
    assert work.done
    assert states(search) == ["COMPLETE"] * PROPOSALS * (1 + EXTRAS)
    trials = search.study.trials()
    assert sum(trial.user_attrs["role"] == "proposal" for trial in trials) == PROPOSALS
    for trial in trials:
        if (proposal := trial.user_attrs.get("extra_of")) is not None:
            for name in ("scoring.alpha", "optimizer.generator_lr_scale"):
                assert trial.params[name] == trials[proposal].params[name]
    confirmations = 2 * 3
    trained = ("scoring.alpha", "optimizer.generator_lr_scale")
    trainings = len({tuple(trial.params[name] for name in trained) for trial in trials})
    assert trainings == PROPOSALS or sampler == "nsga2"  # which proposes some points again
    assert len(hands.trained) == 2 * (trainings + confirmations)  # two stages each
    assert set(hands.trained.values()) == set(hands.evaluated.values()) == {1}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_importances_see_every_parameter(sampler: str, tmp_path: Path) -> None:
    search, work, hands = searching(tmp_path, text(sampler))
    work_through([work], hands)
    study = optuna.create_study()
    study.add_trials(search.study.trials())
    assert set(optuna.importance.get_param_importances(study)) == {
        "scoring.alpha",
        "optimizer.generator_lr_scale",
        "sampling.infer_temperature",
    }


def one_after_another(work: Work, hands: Hands, most: int | None = None) -> int:
    """Tasks done."""
    done = 0
    while done != most and (task := work.next()) is not None:
        hands.do(work, task)
        done += 1
    return done


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


def test_a_divergence_is_told_as_pruned_and_kept_away_from(tmp_path: Path) -> None:
    """DESIGN's finding: told as FAIL, the sampler forgets it and goes there again."""

    def diverges(node: Any) -> bool:
        return bool(node.config.scoring.alpha > 1.4)

    more = "  confirmation: null\n"
    search, work, hands = searching(tmp_path, text(more=more, trials=40), diverge=diverges)
    one_after_another(work, hands)
    proposals = [trial for trial in search.study.trials() if trial.user_attrs["role"] == "proposal"]
    diverged = [trial.params["scoring.alpha"] > 1.4 for trial in proposals]
    assert [trial.state is TrialState.PRUNED for trial in proposals] == diverged
    assert {trial.user_attrs["diverged_at"] for trial in proposals if trial.state is TrialState.PRUNED} == {5}
    assert sum(diverged[-20:]) < sum(diverged[:20]) < 20


def test_faults_are_told_as_fail_and_end(tmp_path: Path) -> None:
    search, work, _ = searching(tmp_path, text(trials=3))
    while (task := work.next()) is not None:
        work.failed(task, "Traceback\nValueError: boom")
        work.ended(task)
    assert work.done
    assert states(search) == ["FAIL"] * 3
    assert search.study.trials()[0].user_attrs["error"] == ["ValueError: boom"]
    again, _, _ = searching(tmp_path, text(trials=3))
    assert len(again.propose()) == 1  # the next call proposes others instead


@pytest.mark.parametrize("fid", [float("nan"), float("inf"), float("-inf")])
def test_a_value_that_is_no_number_never_counts_as_complete(fid: float, tmp_path: Path) -> None:
    """Tune's OptunaSearch leaves a NaN RUNNING for ever, and makes -inf the best."""
    search, work, _ = searching(tmp_path, text(trials=1))
    (run,) = work.tree.runs.values() or search.propose()
    search.settle(run, RunResult("evaluated", {"fid": fid, "recall": 0.5}))
    assert states(search) == ["FAIL"]


def test_what_breaks_a_constraint_never_wins(tmp_path: Path) -> None:
    more = "  constraints: {recall: {at_least: 0.6}}\n"
    recall = {"recall": lambda run: 0.9 if run.config.scoring.alpha > 1.5 else 0.1}
    search, work, hands = searching(tmp_path, text(more=more, trials=20), **recall)
    work_through([work], hands)
    assert all(trial.params["scoring.alpha"] > 1.5 for trial in search.best())
    unconstrained = min(search.study.trials(), key=lambda trial: trial.values[0])
    assert unconstrained.params["scoring.alpha"] < 1.5


def test_parameters_that_depend_on_others(tmp_path: Path) -> None:
    space = """
  space:
    scoring.alpha: {choice: [0.9, 1.0, 1.5]}
    scoring.epsilon: {log_uniform: [1.0e-7, 1.0e-4], when: {scoring.alpha: [0.9]}}
    sampling.infer_temperature: {uniform: [0.5, 1.0]}
"""
    search, work, hands = searching(tmp_path, text(space=space))
    work_through([work], hands)
    for trial in search.study.trials():
        assert ("scoring.epsilon" in trial.params) == (trial.params["scoring.alpha"] == 0.9)


def test_several_objectives(tmp_path: Path) -> None:
    more = "  objectives: [fid, is]\n"
    for sampler in ("nsga2", "tpe"):
        folder = tmp_path / sampler
        folder.mkdir()
        diverge = {"diverge": lambda node: node.config.scoring.alpha > 1.7}
        search, work, hands = searching(folder, text(sampler, more), **diverge)
        work_through([work], hands)
        assert work.done
        assert set(states(search)) <= {"COMPLETE", "PRUNED"}
        assert all(len(trial.values) == 2 for trial in search.study.trials() if trial.state is TrialState.COMPLETE)


def test_a_value_is_the_mean_over_seeds(tmp_path: Path) -> None:
    by_seed = {"fid": lambda run: float(10 + run.seed)}
    search, work, hands = searching(tmp_path, text(trials=2, top="seeds: [1, 2, 6]"), **by_seed)
    work_through([work], hands)
    assert {trial.values[0] for trial in search.study.trials()} == {13.0}


def test_starting_points_come_first_and_once(tmp_path: Path) -> None:
    more = "  start: [{}, {scoring.alpha: 1.5}]\n"
    search, work, hands = searching(tmp_path, text(more=more, trials=4))
    one_after_another(work, hands, most=2)
    work.close()
    search, work, _ = searching(tmp_path, text(more=more, trials=4))
    work_through([work], hands)
    proposals = [trial.params for trial in search.study.trials() if trial.user_attrs["role"] == "proposal"]
    assert [point["scoring.alpha"] for point in proposals[:2]] == [1.0, 1.5]
    assert len({repr(point) for point in proposals}) == 4


def test_winner_and_runner_up_are_measured_again(tmp_path: Path) -> None:
    more = "  confirmation: {seeds: 3, images: 4000}\n"
    lucky = {"fid": lambda run: bowl(run) + (0 if run.config.evaluation.images == 2000 else run.seed - 1000)}
    search, work, hands = searching(tmp_path, text(more=more), **lucky)
    work_through([work], hands)
    winner, runner_up = search.study.noted("confirmation")
    assert winner["searched"] <= runner_up["searched"]
    assert winner["mean"] == pytest.approx(winner["searched"] + 1)
    assert winner["half_width"] == pytest.approx(4.302653 / 3**0.5)  # Student's t of 2 degrees of freedom, s = 1
    assert (winner["seeds"], winner["images"]) == ([1000, 1001, 1002], 4000)
    assert winner["parameters"]["scoring.alpha"] != runner_up["parameters"]["scoring.alpha"]
    _, work, _ = searching(tmp_path, text(more=more))
    assert work.next() is None  # once and for all


STOPPING = "  early_stopping: {name: median, every: 300, startup_trials: 2}\n  confirmation: null\n"


def test_what_falls_behind_is_stopped_with_its_intermediate_values(tmp_path: Path) -> None:
    search, work, hands = searching(tmp_path, text(more=STOPPING, trials=6, top="seeds: [0, 1]"))
    stopped = 0
    values = iter([10.0, 11.0, 50.0, 9.0, 60.0, 8.0])
    while (task := work.next()) is not None:
        if task.trains and task.node.stage == 0 and task.node.config.seed == 0:
            hopeless = work.reported(task, 300, next(values))
            assert work.reported(task, 300, 0.0) is hopeless  # said once more after a restart, it changes nothing
            if hopeless:
                stopped += 1
                work.ended(task)
                continue
        hands.do(work, task)
    assert stopped == 2
    assert work.done
    pruned = [trial for trial in search.study.trials() if trial.state is TrialState.PRUNED]
    assert [trial.intermediate_values for trial in pruned] == [{300: 50.0}, {300: 60.0}]
    seeds = {run.seed for run in work.tree.runs.values() if work.settled[run.keys.evaluation].state == "pruned"}
    assert seeds == {0}  # the others are not begun


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


WIDTHS = """
  space:
    scoring.alpha: {uniform: [1.0, 1.9]}
    model.width: {int: [32, 64]}
    sampling.infer_temperature: {uniform: [0.5, 1.0]}
"""


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_points_that_are_no_valid_configuration_are_told_and_made_up_for(sampler: str, tmp_path: Path) -> None:
    """Both ends of the range are valid; in between most are not: four heads want a multiple of four."""
    yaml = text(sampler, space=WIDTHS, trials=4)
    search, work, hands = searching(tmp_path, yaml)
    one_after_another(work, hands, most=3)
    work.close()
    search, work, _ = searching(tmp_path, yaml)
    work_through([work], hands)
    assert work.done
    complete = [trial for trial in search.study.trials() if trial.state is TrialState.COMPLETE]
    refused = [trial for trial in search.study.trials() if trial.state is TrialState.FAIL]
    assert len(complete) + len(refused) == len(search.study.trials())
    assert len(complete) == 4 * (1 + EXTRAS)
    assert {trial.params["model.width"] % 4 for trial in complete} == {0}
    assert refused
    assert all("model" in trial.user_attrs["error"][0] for trial in refused)
    assert search.standing().startswith("4 of 4 proposed")
    assert len(studied_runs(plan_of(tmp_path, yaml).sweep, search._configurations, tmp_path / "s")) == 12 + 6


def test_more_trials_that_find_better_ones_have_them_measured_again(tmp_path: Path) -> None:
    search, work, hands = searching(tmp_path, text(trials=2))
    work_through([work], hands)
    first = search.study.noted("confirmation")
    search, work, _ = searching(tmp_path, text(trials=PROPOSALS))
    work_through([work], hands)
    assert [each["trial"] for each in search.study.noted("confirmation")] == [
        trial.number for trial in search.best()[:2]
    ]
    assert search.study.noted("confirmation") != first
    assert set(hands.trained.values()) == {1}
    _, later, _ = searching(tmp_path, text(trials=PROPOSALS))
    assert later.next() is None
    assert set(later.settled) == set(hands.evaluated)  # the first confirmation's too: they stay in MLflow and the store
    other = "  confirmation: {seeds: 4}\n"
    search, work, _ = searching(tmp_path, text(trials=PROPOSALS, more=other))
    work_through([work], hands)
    assert {len(each["seeds"]) for each in search.study.noted("confirmation")} == {4}
    assert set(hands.trained.values()) == {1}  # of the four seeds, three were known


REFUSED = {
    "stopping what is better when higher": (
        text(more="  early_stopping: {every: 100}\n", top="metric: {name: recall, mode: max}"),
        "the objective must be fid or fid_null, not recall",
    ),
    "no valid point": (
        text(
            top="base: digits_hyvarinen",
            space="  space:\n    training.stages.-1.train_temperature: {uniform: [0.9, 0.95]}\n"
            "    sampling.infer_temperature: {uniform: [0.5, 1.0]}\n",
        ),
        "of 100 points drawn in a row none is valid, the last one since",
    ),
    "no classes, no IS": (
        text(more="  objectives: [fid, is]\n", top="set: {evaluation.extractor: dinov2-vit-b-14}"),
        "is can't be measured: dinov2-vit-b-14 has no classes",
    ),
    "statistics alone": (
        text(more="  constraints: {recall: {at_least: 0.5}}\n", top=f"set: {{evaluation.statistics: {STATISTICS}}}"),
        "recall can't be measured",
    ),
    "one cache": (
        text(
            top="base: imagenet256_base\nset: {data.latents: cache}",
            space="  space:\n    tokenizer.scale: {uniform: [0.2, 0.3]}\n"
            "    sampling.infer_temperature: {uniform: [0.5, 1.0]}\n",
        ),
        "all runs would read the same cache",
    ),
    "how it is carried out": (
        text(
            space="  space:\n    execution.workers: {int: [1, 4]}\n"
            "    sampling.infer_temperature: {uniform: [0.5, 1.0]}\n"
        ),
        "changes no result",
    ),
    "two that never fit": (text(more="  start: [{model.width: 33}]\n", space=WIDTHS), "point 1: "),
    "beyond the range": (text(space="  space: {scoring.alpha: {uniform: [1.0, 2.5]}}\n"), "less than or equal to 2"),
    "wrong type": (text(space="  space: {model.depth: {uniform: [1.5, 2.5]}}\n"), "model.depth"),
    "unknown": (text(space="  space: {scoring.alpa: {uniform: [1.0, 1.5]}}\n"), "did you mean 'alpha'"),
    "upside down": (text(space="  space: {scoring.alpha: {uniform: [1.5, 1.0]}}\n"), "lower end first"),
    "log of 0": (text(space="  space: {scoring.epsilon: {log_uniform: [0.0, 1.0]}}\n"), "ends above 0"),
    "twice": (text(space="  space: {scoring.alpha: {choice: [1.0, 1.0]}}\n"), "choice has a value twice"),
    "no trials": (text(trials=0), "greater than 0"),
    "no metric": (text(more="  objectives: [loss]\n"), "objectives"),
    "point outside": (text(more="  start: [{scoring.alpha: 0.5}]\n"), "point 1: scoring.alpha = 0.5 is not in"),
    "nothing to evaluate": (text(space="  space: {scoring.alpha: {uniform: [1.0, 1.5]}}\n"), "evaluation-only"),
    "loss": (text(more="  early_stopping: {every: 100, metric: loss}\n"), "changes what the training loss measures"),
    "grid as well": (text() + "space: {scoring.alpha: [1.0]}\n", "give either `space`"),
    "when": (
        text(space="  space:\n    sampling.cfg: {uniform: [1.0, 2.0], when: {scoring.alpha: [1.0]}}\n"),
        "no choice that stands above",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_searches_are_refused(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez(STATISTICS, mu=np.zeros(4), sigma=np.eye(4))
    yaml, message = REFUSED[case]
    with pytest.raises(UserError) as error:
        plan_of(tmp_path, yaml)
    assert message in str(error.value)
    assert "sweep.yaml" in str(error.value)


def test_another_space_under_the_same_name_is_refused_with_what_changed(tmp_path: Path) -> None:
    searching(tmp_path, text())
    changed = text(space=SPACE.replace("1.9", "1.5"))
    with pytest.raises(UserError) as error:
        searching(tmp_path, changed)
    assert "space.scoring.alpha.uniform was [1.0, 1.9] and is [1.0, 1.5]" in str(error.value)
    assert "s-2" in str(error.value)
    searching(tmp_path, text(trials=PROPOSALS + 5))  # more of the same is no other search


def test_a_journal_with_a_torn_last_line_goes_on(tmp_path: Path) -> None:
    search, work, hands = searching(tmp_path, text(trials=4))
    one_after_another(work, hands, most=4)
    work.close()
    with search.study.path.open("ab") as journal:
        journal.write(b'{"op_code": 4, "worker_')  # a machine that lost power
    again, work, _ = searching(tmp_path, text(trials=4))
    work_through([work], hands)
    assert states(again) == ["COMPLETE"] * 4 * (1 + EXTRAS)


def test_the_sampler_sees_each_training_once_at_its_best(tmp_path: Path) -> None:
    search, work, hands = searching(tmp_path, text())
    work_through([work], hands)
    seen = search._trained_once()
    assert seen is not None
    assert len(seen) == PROPOSALS
    trials = search.study.trials()
    for trial in seen:
        training = trial.user_attrs.get("extra_of", trial.number)
        values = [t.values[0] for t in trials if t.user_attrs.get("extra_of", t.number) == training]
        assert len(values) == 1 + EXTRAS
        assert trial.values[0] == min(values)


def test_nothing_is_proposed_twice(tmp_path: Path) -> None:
    """A Gaussian process likes the corners of a space, again and again."""
    corner = {"fid": lambda run: run.config.scoring.alpha + run.config.optimizer.generator_lr_scale}
    search, work, hands = searching(tmp_path, text("gp", trials=18), **corner)
    work_through([work], hands)
    trainings = [
        tuple(round(v, 9) for v in search._training_of(trial.params).values()) for trial in search.study.trials()
    ]
    assert len(set(trainings)) == 18
    assert len(hands.trained) == 2 * (18 + 2 * 3)
