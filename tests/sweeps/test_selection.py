"""`--set` and `--only`: which sweep and which part of it a command means; the best configuration in words."""

from pathlib import Path

import pytest

from ear.errors import UserError
from sweeps.spec.plan import compile_plan
from sweeps.spec.ranking import Ranked, best_lines

SWEEP = """
name: grid
description: What alpha does.
tags: {project: ablations}
space: {scoring.alpha: [1.0, 1.5], sampling.cfg: [1.0, 2.0, 3.0]}
seeds: [0, 1]
"""


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    path = tmp_path / "grid.yaml"
    path.write_text(SWEEP)
    return path


@pytest.mark.parametrize(
    ("only", "count"),
    [
        ([], 12),
        (["scoring.alpha=1"], 6),
        (["alpha=1.0", "cfg=2.0"], 2),
        (["cfg=1.0", "cfg=3.0", "seed=1"], 4),
    ],
)
def test_only_selects_a_part_and_keeps_the_identity(sweep: Path, only: list[str], count: int) -> None:
    part = compile_plan(sweep, only=only)
    assert len(part.asked) == len(part.asked_tree.runs) == count
    assert part.is_partial == bool(only)
    assert part.identity == compile_plan(sweep).identity


@pytest.mark.parametrize(
    ("only", "words"),
    [
        ("alpha=1.25", "no such value; scoring.alpha is 1.0, 1.5"),
        ("alpha=true", "no such value"),
        ("scoring.alpah=1.0", "did you mean 'scoring.alpha'"),
        ("alpha", "write it as axis=value"),
    ],
)
def test_only_refuses_what_the_grid_has_not(sweep: Path, only: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        compile_plan(sweep, only=[only])


def test_set_makes_another_sweep_unless_only_the_execution_changes(sweep: Path) -> None:
    whole = compile_plan(sweep)
    changed = compile_plan(sweep, settings=["training.batch_size=32"])
    assert changed.sweep.name == "grid-batch_size-32"
    assert {run.config.training.batch_size for run in changed.runs} == {32}
    assert not {*changed.tree.runs} & {*whole.tree.runs}
    assert compile_plan(sweep, settings=["execution.batch_size=50"]).identity.digest == whole.identity.digest
    last = compile_plan(sweep, settings=["training.stages.0.steps=1"])
    assert last.sweep.name == "grid-steps-1"
    with pytest.raises(UserError, match=r"the axis scoring.alpha replaces"):
        compile_plan(sweep, settings=["scoring.alpha=1.0"])


def test_words_about_a_sweep_do_not_change_what_it_is(sweep: Path) -> None:
    plan = compile_plan(sweep)
    assert plan.identity.description == "What alpha does."
    assert plan.identity.tags == {"project": "ablations"}
    sweep.write_text(SWEEP.replace("What alpha does.", "Other words.").replace("ablations", "others"))
    assert compile_plan(sweep).identity.digest == plan.identity.digest
    sweep.write_text(SWEEP.replace("project:", "ear.best:"))
    with pytest.raises(UserError, match="taken"):
        compile_plan(sweep)


def test_the_best_is_said_with_its_uncertainty(sweep: Path) -> None:
    runs = compile_plan(sweep).runs
    # t(0.975, 1 degree of freedom) = 12.706; the standard error of 10 and 12 is 1
    two = Ranked(runs[:2], (10.0, 12.0))
    assert best_lines([two], 1, "fid") == [
        "1 configuration has no value for each seed (diverged, failed or not run) and no rank.",
        "Best of 1 configurations:  alpha=1.0 cfg=1.0, lowest mean fid 11.00 ± 12.71 (95%); 2 seeds",
    ]
    (line,) = best_lines([Ranked(runs[:1], (0.5,))], 0, "recall")
    assert line.endswith("highest recall 0.500; one seed, so no interval: the order may be chance")
    assert best_lines([], 0, "fid") == []
