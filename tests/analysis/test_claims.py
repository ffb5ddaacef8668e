"""The paper's claims as data: every one can be tested by the shipped sweeps, or lights up when the code can."""

from pathlib import Path
from typing import Literal

import pytest

from analysis.paper import paper_ablation
from analysis.paper.claims import (
    BestAt,
    Claim,
    Collapses,
    Diverges,
    Faster,
    LowerThan,
    Ordered,
    paper_claims,
    read_claims,
)
from analysis.paper.evidence import Evidence
from analysis.paper.implemented import is_implemented
from analysis.paper.suite import name_on, plan_on, suite_files
from analysis.paper.verdicts import judge_one
from ear.config import RunConfig
from ear.config.hashed import trained_differently
from ear.config.loading import load_config
from ear.config.schema import ModelConfig
from ear.errors import UserError

CLAIMS = {claim.id: claim for claim in paper_claims()}
TESTABLE = [claim for claim in CLAIMS.values() if is_implemented(claim.needs)]


class OrderedModelConfig(ModelConfig):
    order: Literal["masked", "causal"] = "masked"


class WithOrders(RunConfig):
    """The schema as it will be with a causal order."""

    model: OrderedModelConfig


def places(claim: Claim) -> list[tuple[str, set[str]]]:
    """(sweep, the axes that the claim gives a value, tunes or varies) of each side."""
    said = claim.statistic
    match said:
        case LowerThan() | Faster():
            return [(arm.sweep, {*arm.at, *arm.tuned}) for arm in (said.one, said.other)]
        case Ordered() | BestAt() | Collapses() | Diverges():
            return [(said.sweep, {*said.at, *said.tuned, said.along})]


@pytest.mark.parametrize("base", ["digits", "fashion_mnist", "imagenet256_base"])
def test_every_sweep_of_the_suite_is_valid_on_every_base(base: str) -> None:
    for name, path in suite_files().items():
        assert plan_on(name, base).sweep.name == name_on(name, base), path


@pytest.mark.parametrize("claim", TESTABLE, ids=lambda claim: claim.id)
def test_a_claim_names_axes_and_values_of_its_sweeps(claim: Claim) -> None:
    for base in ("digits", "fashion_mnist", "imagenet256_base"):
        for sweep, axes in places(claim):
            assert set(plan_on(sweep, base).sweep.space) == axes
    said = claim.statistic
    for arm in (said.one, said.other) if isinstance(said, LowerThan | Faster) else ():
        for axis, value in arm.at.items():
            assert value in plan_on(arm.sweep, "digits").sweep.space[axis]
    if isinstance(said, BestAt | Collapses):
        assert said.value in plan_on(said.sweep, "digits").sweep.space[said.along]
    if isinstance(said, Ordered) and said.labels:
        assert len(said.labels) == len(plan_on(said.sweep, "digits").sweep.space[said.along])


def test_the_numbers_of_alpha_are_those_of_its_table() -> None:
    table = paper_ablation(["scoring.alpha"])
    assert table is not None
    for claim, metric, quantity in (
        ("alpha_order", "fid", "FID"),
        ("alpha_1_is_best", "fid", "FID"),
        ("alpha_2_collapses", "fid", "FID"),
        ("alpha_2_is", "is", "IS"),
    ):
        assert list(CLAIMS[claim].paper[quantity].values()) == table.printed[metric]
        assert list(CLAIMS[claim].paper[quantity]) == [f"α {value}" for value in table.values]


def test_the_sweeps_of_one_base_share_their_trainings() -> None:
    """Guidance, its schedule and the energy score's side of the diffusion loss train nothing of their own."""
    trained = {run.keys.training for run in plan_on("alpha", "digits").runs}
    for name in ("guidance", "guidance_schedule"):
        assert {run.keys.training for run in plan_on(name, "digits").runs} <= trained


def test_the_diffusion_loss_is_that_of_digits_hyvarinen() -> None:
    (run, *_) = plan_on("diffusion_loss", "digits").runs
    assert trained_differently(run.config, load_config("digits_hyvarinen"), stages=1) == []


@pytest.mark.parametrize(
    ("needs", "there"),
    [
        ({}, True),
        ({"scoring.name": "energy"}, True),
        ({"scoring.name": "hyvarinen", "sampling.cfg_schedule": "constant"}, True),
        ({"scoring.name": "logarithmic"}, False),
        ({"scoring.name": "energy", "tokenizer.name": "vq"}, False),
        ({"model.order": "causal"}, False),
        ({"model.depth": 2}, True),
        ({"model.depth": -2}, False),
        ({"model.width.deeper": 1}, False),
        ({"training.stages.train_temperature": 0.99}, True),
    ],
)
def test_the_schema_says_what_is_implemented(needs: dict[str, object], there: bool) -> None:
    assert is_implemented(needs) is there


def test_a_claim_lights_up_with_its_code(tmp_path: Path) -> None:
    evidence = Evidence("digits", tmp_path, {}, {}, {})
    claim = CLAIMS["masked_beats_causal"]
    now, then = judge_one(claim, evidence), judge_one(claim, evidence, WithOrders)
    assert (now.outcome, now.todo) == ("not yet implemented", "model.order: causal")
    assert (then.outcome, then.todo) == ("not tested", "no sweep tests it yet: add sweeps/paper/order.yaml")


ONE = """
claims:
  - id: a
    words: Down.
    source: figure 1
    statistic: {name: ordered, sweep: alpha, along: scoring.alpha, direction: falls}
"""


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (ONE.replace("falls", "sinks"), "claims.0.statistic.direction: input should be 'rises' or 'falls'"),
        (ONE.replace("ordered", "sorted"), "claims.0.statistic.name: 'sorted' is not one of ordered, best_at"),
        (ONE.replace("source: figure 1", "source: ''"), "claims.0.source: "),
        (ONE.replace("words:", "word:"), "unknown key 'claims.0.word' (did you mean 'words'?)"),
        (ONE + ONE.replace("claims:", "").strip("\n"), "duplicate id: a"),
        ("[]", "a mapping of keys to values is needed"),
    ],
)
def test_faults_in_the_claims_are_named(fault: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        read_claims(fault)
    assert message in str(error.value)


def test_sides_are_tuned_alike() -> None:
    text = """
claims:
  - id: a
    words: Lower.
    source: figure 1
    statistic:
      name: lower_than
      one: {label: one, sweep: guidance, at: {sampling.steps: 8}, tuned: [sampling.cfg]}
      other: {label: other, sweep: guidance, at: {sampling.steps: 4, sampling.cfg: 1.0}}
"""
    with pytest.raises(UserError, match="tune both sides or none"):
        read_claims(text)
