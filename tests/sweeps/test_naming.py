"""What sweeps, parameters and values are called."""

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from searching import text
from simulated import plan_of

from ear.config.schema import StageConfig
from ear.terminal.console import terminal
from sweeps.driver.progress_table import rows_table
from sweeps.driver.task_progress import Row
from sweeps.search.confirmation import confirmation_runs
from sweeps.spec.naming import is_reserved, plain, short_names, shown
from sweeps.views.plan_view import format_parameter

NAMES = {
    "the last name where that is enough": (["scoring.alpha", "sampling.cfg"], ["alpha", "cfg"]),
    "as many as tell them apart": (["model.width", "scoring.generator.width"], ["model.width", "generator.width"]),
    "of the others the short ones": (
        ["model.depth", "scoring.generator.depth", "scoring.alpha"],
        ["model.depth", "generator.depth", "alpha"],
    ),
    "one ending in the other": (["a.width", "b.a.width", "width"], ["a.width", "b.a.width", "width"]),
    "a number is no name": (
        ["training.stages.0.train_temperature", "training.stages.-1.train_temperature", "optimizer.betas.0"],
        ["stages.0.train_temperature", "stages.-1.train_temperature", "betas.0"],
    ),
    "a stage's steps and sampling's": (
        ["training.stages.0.steps", "sampling.steps"],
        ["stages.0.steps", "sampling.steps"],
    ),
    "not the name of a metric or of the seed": (
        ["execution.precision", "evaluation.seed"],
        ["execution.precision", "evaluation.seed"],
    ),
    "a whole section": (["model"], ["model"]),
}


@pytest.mark.parametrize("case", NAMES)
def test_names_are_as_short_as_they_can_be(case: str) -> None:
    parameters, names = NAMES[case]
    assert short_names(parameters) == dict(zip(parameters, names, strict=True))


@pytest.mark.parametrize(
    "name",
    [
        "store",
        "STORE",
        "slurm",
        "paper",
        "mlartifacts",
        "mlruns",
        "Default",
        "mlflow.db",
        "mlflow.db-wal",
        "MLflow.db.lock",
    ],
)
def test_what_lies_beside_a_sweep_s_folder_is_no_name_for_it(name: str) -> None:
    assert is_reserved(name)
    assert not is_reserved(f"my-{name}")


def test_values_are_short_and_readable() -> None:
    drawn = 0.123456789012345
    values = [None, True, 2, 1.25, 1e-05, drawn, "cosine", [0.9, 0.95], {"width": 32, "of": [None, {"a": 1}]}]
    assert [shown(value) for value in values] == [
        *("none", "true", "2", "1.25", "1e-05", "0.1235", "cosine", "[0.9, 0.95]"),
        "{width: 32, of: [none, {a: 1}]}",
    ]
    assert shown(0.99999991) != shown(0.99999992)  # somebody typed them, to see the difference


def test_a_grid_s_labels_have_the_validated_values_under_names_that_differ(tmp_path: Path) -> None:
    space = (
        "{model.width: [16], scoring.generator.width: [32], scoring.alpha: [1, 1.25], optimizer.warmup_steps: "
        "[null], optimizer.betas: [[0, 0.9]], sampling: [{steps: 8}]}"
    )
    plan = plan_of(tmp_path, f"name: a\nspace: {space}\n")
    rest = "warmup_steps=none betas=[0.0, 0.9]"
    assert [run.label for run in plan.runs] == [
        f"model.width=16 generator.width=32 alpha={alpha} {rest} sampling={{steps: 8}} seed=0"
        for alpha in ("1.0", "1.25")
    ]
    assert [node.label for node in plan.tree.roots()] == [
        f"model.width=16 generator.width=32 alpha={alpha} {rest} seed=0 stage 1/2" for alpha in ("1.0", "1.25")
    ]
    assert plan.runs[1].parameters == {
        "model.width": 16,
        "scoring.generator.width": 32,
        "scoring.alpha": 1.25,
        "optimizer.warmup_steps": None,
        "optimizer.betas": [0.0, 0.9],
        "sampling": {"steps": 8},
    }


def test_a_search_s_labels_are_the_same_where_a_parameter_is_not_drawn(tmp_path: Path) -> None:
    space = """
  space:
    training.schedule: {choice: [constant, cosine]}
    model.width: {int: [16, 32]}
    scoring.generator.width: {int: [16, 32], when: {training.schedule: [cosine]}}
    sampling.cfg: {uniform: [1.0, 2.0]}
"""
    plan = plan_of(tmp_path, text("random", space=space))
    point = {"training.schedule": "constant", "model.width": 16, "sampling.cfg": 1}
    assert plan.configurations.run(point, 0).label == "schedule=constant model.width=16 cfg=1.0 seed=0"
    assert plan.sweep.search is not None
    settings = plan.sweep.search.confirmation
    assert settings is not None
    first = confirmation_runs(settings, point, [0], plan.configurations)[0]
    noise = "evaluation.seed=1 evaluation.images=4000"
    assert first.label == f"schedule=constant model.width=16 cfg=1.0 {noise} seed=1000"


def test_a_section_is_what_was_given_of_it() -> None:
    stages = (StageConfig(steps=20, learning_rate=1e-3), StageConfig(epochs=1, learning_rate=1e-3))
    assert plain(stages) == [{"steps": 20, "learning_rate": 0.001}, {"epochs": 1.0, "learning_rate": 0.001}]


def test_words_in_brackets_are_printed_as_they_are(tmp_path: Path) -> None:
    """Rich takes `[red]` for a colour."""
    (run,) = plan_of(tmp_path, "name: a\nspace: {training.schedule: [cosine]}\n").runs
    run = replace(run, parameters={"training.schedule": "[red]"})
    for printed in (format_parameter(run, "training.schedule"), rows_table([Row(run.label, 10)], "title")):
        console = terminal()
        console.width, console.file = 1000, io.StringIO()
        console.print(printed)
        assert "schedule[red]" in re.sub("[ =]", "", console.file.getvalue())  # type: ignore[attr-defined]
