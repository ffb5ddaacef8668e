"""What a search makes of constraints and of several objectives, with the real Optuna and a simulated training."""

import json
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import FrozenTrial
from searching import searching, text
from simulated import work_through

from sweeps.search.search import Search
from sweeps.spec.runs import PlannedRun

pytestmark = pytest.mark.usefixtures("no_waiting")

ALONE = "  confirmation: null\n"
BOUND = "  constraints: {recall: {at_least: 0.8}}\n" + ALONE
BOTH = "  objectives: [fid, recall]\n"
NARROW = """
  space:
    scoring.alpha: {uniform: [1.0, 1.9]}
    sampling.infer_temperature: {uniform: [0.5, 1.0]}
"""
COOL_ONES = [{"scoring.alpha": 1 + 0.045 * number, "sampling.infer_temperature": 0.6} for number in range(20)]
LATE = 1.55  # from this alpha on nothing is feasible


def alpha_of(run: PlannedRun) -> float:
    scoring: Any = run.config.scoring
    return float(scoring.alpha)


def cool(run: PlannedRun) -> bool:
    return run.config.sampling.infer_temperature < 0.75


def trap_fid(run: PlannedRun) -> float:
    """Best where nothing is feasible; elsewhere where it is cool, and at an alpha of 1.1."""
    return 18.0 if alpha_of(run) > LATE else 20 + 40 * (alpha_of(run) - 1.1) ** 2 - (10 if cool(run) else 0)


def trap_recall(run: PlannedRun) -> float:
    """Holds the bound where it is neither late nor cool; breaks it least where it is late."""
    if alpha_of(run) > LATE:
        return 0.2 if cool(run) else 0.4
    return 0.0 if cool(run) else 1.0


def of_each_training(trials: list[FrozenTrial]) -> list[list[FrozenTrial]]:
    """The trials among these, by the training that they evaluate."""
    found: dict[int, list[FrozenTrial]] = {}
    for trial in trials:
        found.setdefault(trial.user_attrs.get("extra_of", trial.number), []).append(trial)
    return list(found.values())


def seen_by_sampler(search: Search) -> list[FrozenTrial]:
    seen = search.proposer.history()
    assert seen is not None
    return seen


def test_an_evaluation_that_breaks_a_constraint_hides_no_feasible_one_from_the_sampler(tmp_path: Path) -> None:
    search, work, hands = searching(tmp_path, text(more=BOUND), fid=trap_fid, recall=trap_recall)
    work_through([work], hands)
    seen = {trial.number for trial in seen_by_sampler(search)}
    mixed = 0
    for trials in of_each_training(search.study.trials()):
        feasible = [trial for trial in trials if trial.user_attrs["metrics"]["recall"] >= 0.8]
        mixed += 0 < len(feasible) < len(trials)
        (shown,) = [trial for trial in trials if trial.number in seen]
        assert shown in feasible or not feasible
    assert mixed > 3


def test_an_infeasible_region_with_the_best_objective_attracts_no_proposals(tmp_path: Path) -> None:
    """Each training was tried with a cool temperature too, which is better by FID and breaks the bound."""
    more = f"{BOUND}  start: {json.dumps(COOL_ONES)}\n"
    yaml = text("tpe", more, NARROW, trials=len(COOL_ONES))
    search, work, hands = searching(tmp_path, yaml, fid=trap_fid, recall=trap_recall)
    work_through([work], hands)
    history = seen_by_sampler(search)
    for sampler, draws in (("tpe", 20), ("gp", 2)):
        attracted = 0
        for seed in range(draws):
            search.study._search = search._search.model_copy(update={"sampler": sampler, "seed": seed})
            attracted += search.study.suggest(history)["scoring.alpha"] > LATE
        assert attracted <= draws / 10  # evenly drawn ones would be four times as many


def test_the_sampler_sees_each_trainings_own_front(tmp_path: Path) -> None:
    """Of a training's five evaluations, FID is best at 0.8 and recall where it is warm."""
    warm = {"recall": lambda run: run.config.sampling.infer_temperature}
    yaml = text(more=BOTH + ALONE).replace("evaluations: 2", "evaluations: 4")
    search, work, hands = searching(tmp_path, yaml, **warm)
    work_through([work], hands)
    seen = {trial.number for trial in seen_by_sampler(search)}
    several = 0
    for trials in of_each_training(search.study.trials()):
        points = {trial.number: trial.values for trial in trials}
        for number, (fid, recall) in points.items():
            beaten = any(f <= fid and r >= recall and (f, r) != (fid, recall) for f, r in points.values())
            assert (number in seen) is not beaten
        several += len(seen & points.keys()) > 1
    assert several > 3
