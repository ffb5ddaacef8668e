"""What a search proposes and what it tells the study, with the real Optuna and a simulated training."""

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from searching import EXTRAS, PROPOSALS, SAMPLERS, STOPPING, WIDTHS, bowl, one_after_another, searching, states, text
from simulated import plan_of, work_through

from sweeps.search.study_summary import studied_runs
from sweeps.spec.runs import RunResult
from sweeps.spec.search_space import random_points

pytestmark = pytest.mark.usefixtures("no_waiting")


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
    assert winner["searched"]["fid"] <= runner_up["searched"]["fid"]
    assert winner["mean"] == {"fid": pytest.approx(winner["searched"]["fid"] + 1)}
    assert winner["half_width"]["fid"] == pytest.approx(4.302653 / 3**0.5)  # Student's t of 2 degrees of freedom, s = 1
    assert (winner["seeds"], winner["images"]) == ([1000, 1001, 1002], 4000)
    assert winner["parameters"]["scoring.alpha"] != runner_up["parameters"]["scoring.alpha"]
    _, work, _ = searching(tmp_path, text(more=more))
    assert work.next() is None  # once and for all


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
    assert search.progress_note().startswith("4 of 4 proposed")
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


def test_the_sampler_sees_each_training_once_at_its_best(tmp_path: Path) -> None:
    search, work, hands = searching(tmp_path, text())
    work_through([work], hands)
    seen = search.proposer.history()
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
    with_extras = text("gp", trials=18)
    alone = with_extras.replace(f"evaluations: {EXTRAS}", "evaluations: 0")
    assert alone != with_extras
    search, work, hands = searching(tmp_path, alone, **corner)
    work_through([work], hands)
    trainings = [
        tuple(round(v, 9) for v in search.proposer.training_of(trial.params).values())
        for trial in search.study.trials()
    ]
    assert len(set(trainings)) == 18
    assert len(hands.trained) == 2 * (18 + 2 * 3)


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_null_is_a_choice_like_any_other(sampler: str, tmp_path: Path) -> None:
    space = """
  space:
    training.mask_group: {choice: [null, 16, 32]}
    sampling.infer_temperature: {uniform: [0.5, 1.0]}
"""
    more = "  confirmation: null\n  start: [{training.mask_group: null}, {training.mask_group: 16}]\n"
    search, work, hands = searching(tmp_path, text(sampler, more=more, space=space, trials=5))
    work_through([work], hands)
    drawn = [trial.params["training.mask_group"] for trial in search.study.trials()]
    assert drawn[:2] == [None, 16]
    assert set(drawn) <= {None, 16, 32}
    assert set(states(search)) == {"COMPLETE"}


def test_what_hangs_on_null_is_not_drawn_where_there_is_nothing(tmp_path: Path) -> None:
    """A parameter that is not drawn has no value, which is not the value null."""
    space = """
  space:
    training.schedule: {choice: [constant, cosine]}
    training.mask_group: {choice: [null, 16], when: {training.schedule: [cosine]}}
    sampling.cfg: {uniform: [1.0, 2.0], when: {training.mask_group: [null]}}
"""
    plan = plan_of(tmp_path, text("random", space=space))
    assert plan.sweep.search is not None
    points = random_points(plan.sweep.search, plan.configurations, 40)
    assert all(("training.mask_group" in point) == (point["training.schedule"] == "cosine") for point in points)
    hangs = [point for point in points if "sampling.cfg" in point]
    assert hangs == [point for point in points if point.get("training.mask_group", 16) is None]
    assert 0 < len(hangs) < 20
