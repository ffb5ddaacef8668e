"""A sweep's schema and its plan."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ear.errors import UserError
from ear.store import Store
from sweeps.plan import compile_plan
from sweeps.summary import show_plan
from sweeps.tree import StageTree, Steps

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden" / "sweep_schema.json"
EAR = str(Path(sys.executable).parent / "ear")


def write_sweep(folder: Path, text: str) -> Path:
    path = folder / "sweep.yaml"
    path.write_text(text)
    return path


def test_schema_is_frozen() -> None:
    """Whoever changes the YAML's schema changes this file too, and says so in the changelog."""
    printed = subprocess.run([EAR, "schema", "sweep"], check=True, capture_output=True, text=True).stdout
    assert json.loads(printed) == json.loads(GOLDEN.read_text())


def test_quickstart_is_the_papers_alpha_ablation() -> None:
    plan = compile_plan(ROOT / "sweeps" / "quickstart.yaml")
    assert [run.parameters for run in plan.runs] == [{"scoring.alpha": alpha} for alpha in (1.0, 1.25, 1.5, 1.75, 2.0)]
    assert len(plan.tree.trainings) == 5


def test_the_paper_s_suite_shares_its_trainings() -> None:
    """The README's figures: each run by itself; evaluations shared; stages, too."""
    names = ("alpha", "temperatures", "generator_lr", "guidance")
    runs = [run for name in names for run in compile_plan(ROOT / "sweeps" / "paper" / f"{name}.yaml").runs]
    assert len(runs) == 126
    assert sum(run.config.total_steps for run in runs) == 151_200
    steps = Steps.of(StageTree(runs))
    assert (steps.evaluation_sharing_only, steps.full_sharing) == (36_000, 29_250)


def test_evaluation_parameters_share_their_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_sweep(
        tmp_path,
        "name: a\nseeds: [0, 1]\nspace: {scoring.alpha: [1.0, 1.5], sampling.infer_temperature: [1.0, 0.9, 0.8]}\n",
    )
    show_plan(compile_plan(path), Store(tmp_path / "runs"), as_json=True)
    planned = json.loads(capsys.readouterr().out)
    assert planned["configurations"] == 6
    assert planned["runs"] == planned["evaluations"] == 12
    assert planned["training_nodes"] == 8
    assert planned["training_steps"] == planned["training_steps_evaluation_sharing_only"] == 4 * 1200
    assert planned["training_steps_without_sharing"] == 12 * 1200


def test_base_beside_the_sweep_and_set_reach_every_run(tmp_path: Path) -> None:
    shipped = (ROOT / "ear" / "configs" / "digits.yaml").read_text()
    (tmp_path / "mine.yaml").write_text(shipped.replace("depth: 2, heads", "depth: 3, heads"))
    text = "name: a\nbase: mine.yaml\nset: {training.batch_size: 32}\nspace: {scoring.alpha: [1.0, 1.5]}\n"
    for run in compile_plan(write_sweep(tmp_path, text)).runs:
        assert (run.config.model.depth, run.config.training.batch_size) == (3, 32)


SWEEPS = {
    "empty axis": ("name: a\nspace: {scoring.alpha: []}", "the axis scoring.alpha is empty"),
    "value twice": ("name: a\nspace: {scoring.alpha: [1.0, 1.0]}", "has 1.0 twice"),
    "no base": ("name: a\nbase: gone.yaml\nspace: {scoring.alpha: [1.0]}", "gone.yaml can't be read"),
    "no parameter": ("name: a\nspace: {scoring.alpa: [1.0]}", "did you mean 'alpha'?"),
    "misspelt key": ("name: a\nspaces: {scoring.alpha: [1.0]}", "did you mean 'space'?"),
    "key twice": ("name: a\nname: b\nspace: {scoring.alpha: [1.0]}", "stands here twice"),
    "no YAML": ("name: [", "not valid YAML"),
    "seed as axis": ("name: a\nspace: {seed: [1]}", "seed is no axis"),
    "a name of the program's own files": (
        "name: Store\nspace: {scoring.alpha: [1.0]}",
        "name: the program's own files have this name; give the sweep another (say, sweep-Store) (given: 'Store')",
    ),
    "wrong type": ("name: a\nspace: {scoring.alpha: [high]}", "scoring.alpha: input should be a valid number"),
    "out of range": ("name: a\nspace: {scoring.alpha: [1.0, 2.5]}", "less than or equal to 2 (given: 2.5)"),
    "no metric": ("name: a\nmetric: {name: loss}\nspace: {scoring.alpha: [1.0]}", "metric.name"),
    "two axes for one": (
        "name: a\nspace: {training.stages.1.steps: [5, 6], training.stages.-1.steps: [7]}",
        "are the same run",
    ),
    "other latents, one cache": (
        "name: a\nbase: imagenet256_base\nset: {data.latents: cache}\nspace: {tokenizer.scale: [0.2, 0.3]}",
        "all runs would read the same cache",
    ),
    "neither grid nor search": ("name: a\n", "either `space`, for a grid, or `search`"),
    "a GPU and a half": (
        "name: a\nresources: {gpus: 1.5}\nspace: {scoring.alpha: [1.0]}",
        "from 1 on a trial has whole",
    ),
    "axis without effect": ("name: a\nspace: {execution.threads: [1]}", "changes no result"),
}


@pytest.mark.parametrize("case", SWEEPS)
def test_bad_sweeps_are_refused(case: str, tmp_path: Path) -> None:
    text, message = SWEEPS[case]
    with pytest.raises(UserError) as error:
        compile_plan(write_sweep(tmp_path, text)).tree  # noqa: B018 (what only the keys show)
    assert message in str(error.value)
    assert "sweep.yaml" in str(error.value)


@pytest.mark.parametrize(("cpus", "gpus", "threads"), [(8, 4, 2), (8, 0.5, 8), (2, 4, 1)])
def test_processes_of_a_trial_share_its_cpus(tmp_path: Path, cpus: int, gpus: float, threads: int) -> None:
    text = f"name: a\nresources: {{cpus: {cpus}, gpus: {gpus}}}\nspace: {{scoring.alpha: [1.0]}}\n"
    assert compile_plan(write_sweep(tmp_path, text)).runs[0].config.execution.threads == threads
