"""Searches that are refused, with the reason."""

from pathlib import Path

import numpy as np
import pytest
from searching import PROPOSALS, SPACE, WIDTHS, searching, text
from simulated import plan_of

from ear.errors import UserError
from sweeps.search.study import refuse_another

STATISTICS = "statistics.npz"
REFUSED = {
    "stopping what is better when higher": (
        text(more="  early_stopping: {every: 100}\n", top="metric: {name: recall, mode: max}"),
        "needs an objective that is better when lower: fid or fid_null, not recall",
    ),
    "no valid point": (
        text(
            top="base: digits_hyvarinen",
            space="  space:\n    training.stages.-1.train_temperature: {uniform: [0.9, 0.95]}\n"
            "    sampling.infer_temperature: {uniform: [0.5, 1.0]}\n",
        ),
        "none of 100 consecutive random points is valid; the error of the last one: ",
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
    "upside down": (
        text(space="  space: {scoring.alpha: {uniform: [1.5, 1.0]}}\n"),
        "a larger upper end",
    ),
    "log of 0": (text(space="  space: {scoring.epsilon: {log_uniform: [0.0, 1.0]}}\n"), "needs both ends above 0"),
    "twice": (text(space="  space: {scoring.alpha: {choice: [1.0, 1.0]}}\n"), "choice has a duplicate value"),
    "one to Optuna": (
        text(space="  space: {sampling.cfg: {choice: [1, 1.0]}}\n"),
        "choice has a duplicate value: 1 and 1.0",
    ),
    "a list as choice": (
        text(space="  space: {optimizer.betas: {choice: [[0.9, 0.95]]}}\n"),
        "search.space.optimizer.betas.choice.0: must be a number, text, true, false or null",
    ),
    "true for 1": (
        text(space="  space: {model.depth: {int: [true, 4]}}\n"),
        "int.0: a number is needed, not a boolean",
    ),
    "null without a meaning": (text(space="  space: {model.depth: {choice: [null, 2]}}\n"), "model.depth: "),
    "what is measured": (
        text(space="  space: {evaluation.images: {int: [100, 500]}, sampling.cfg: {uniform: [1.0, 2.0]}}\n"),
        "evaluation.images changes what is measured",
    ),
    "one stage by two names": (
        text(
            space="  space:\n    training.schedule: {choice: [constant, cosine]}\n"
            "    training.stages.-1.steps: {int: [10, 20], when: {training.schedule: [constant]}}\n"
            "    training.stages.1.steps: {int: [5, 9], when: {training.schedule: [cosine]}}\n"
            "    sampling.cfg: {uniform: [1.0, 2.0]}\n"
        ),
        "training.stages.-1.steps and training.stages.1.steps are the same parameter",
    ),
    "no trials": (text(trials=0), "greater than 0"),
    "no metric": (text(more="  objectives: [loss]\n"), "objectives"),
    "point outside": (text(more="  start: [{scoring.alpha: 0.5}]\n"), "point 1: scoring.alpha = 0.5 is not in"),
    "true at a point": (text(more="  start: [{scoring.alpha: true}]\n"), "scoring.alpha = True is not in the space"),
    "nothing to evaluate": (text(space="  space: {scoring.alpha: {uniform: [1.0, 1.5]}}\n"), "evaluation-only"),
    "loss": (text(more="  early_stopping: {every: 100, metric: loss}\n"), "changes what the training loss measures"),
    "grid as well": (text() + "space: {scoring.alpha: [1.0]}\n", "give either `space`"),
    "when": (
        text(space="  space:\n    sampling.cfg: {uniform: [1.0, 2.0], when: {scoring.alpha: [1.0]}}\n"),
        "must be a `choice` listed above",
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


def test_a_seed_may_be_as_large_as_it_likes(tmp_path: Path) -> None:
    plan_of(tmp_path, text(more="  seed: 1099511627776\n"))


def test_another_space_under_the_same_name_is_refused_with_what_changed(tmp_path: Path) -> None:
    searching(tmp_path, text())
    changed = text(space=SPACE.replace("1.9", "1.5"))
    with pytest.raises(UserError) as error:
        searching(tmp_path, changed)
    assert "space.scoring.alpha.uniform was [1.0, 1.9] and is [1.0, 1.5]" in str(error.value)
    assert "s-2" in str(error.value)
    searching(tmp_path, text(trials=PROPOSALS + 5))  # more of the same is no other search


def test_a_search_is_bound_to_what_can_change_its_results_alone(tmp_path: Path) -> None:
    searching(tmp_path, text())
    searching(tmp_path, text(top="set: {execution.log_every: 50}\nresources: {cpus: 2}"))
    with pytest.raises(UserError, match="base was"):
        searching(tmp_path, text(top="set: {training.label_drop: 0.2}"))


def test_a_study_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    """Which knew the base by its YAML as it stands."""
    search, _, _ = searching(tmp_path, text())
    earlier = plan_of(tmp_path, text()).configurations.earlier_digest
    search.study.note("identity", {**search.study.noted("identity"), "base": earlier})
    searching(tmp_path, text())
    with pytest.raises(UserError, match="base was"):
        searching(tmp_path, text(top="set: {training.label_drop: 0.2}"))


def test_only_what_differs_is_named() -> None:
    """An earlier version's digest of the base stands for today's."""
    identity = {"trials": 4, "base": "new", "earlier_base": "earlier"}
    for base in ("new", "earlier"):
        refuse_another({"trials": 4, "base": base}, identity, Path("study.journal"), "s")
        with pytest.raises(UserError, match=r"with other settings: trials was 3 and is 4\. Its"):
            refuse_another({"trials": 3, "base": base}, identity, Path("study.journal"), "s")
    with pytest.raises(UserError, match='settings: base was "other" and is "new"\\. Its'):
        refuse_another({"trials": 4, "base": "other"}, identity, Path("study.journal"), "s")
