"""A sweep's schema and its plan."""

import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from encoding_parts import SIZE, encode, write_images

from analysis.paper.suite import suite_files
from ear.config.loading import set_dotted
from ear.data import file_hashes
from ear.data.image_folder import list_images
from ear.errors import UserError
from ear.store import Store
from sweeps.spec.plan import compile_plan
from sweeps.spec.stage_tree import StageTree, Steps
from sweeps.views.plan_view import show_plan

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
    with warnings.catch_warnings(action="ignore"):  # of alpha = 2 and of alpha < 1
        runs = [run for path in suite_files().values() for run in compile_plan(path).runs]
    assert len(runs) == 367
    assert sum(run.config.total_steps for run in runs) == 440_400
    steps = Steps.of(StageTree(runs))
    assert (steps.evaluation_sharing_only, steps.full_sharing) == (99_600, 92_850)


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


def test_another_base_may_have_other_values_of_an_axis(tmp_path: Path) -> None:
    """And other seeds than its own may be asked for."""
    bases = "bases: {fashion_mnist: {space: {sampling.steps: [8, 32]}}}"
    path = write_sweep(tmp_path, f"name: a\nspace: {{sampling.steps: [4], scoring.alpha: [1.0]}}\n{bases}\n")
    runs = compile_plan(path, "fashion_mnist", seeds=[3, 5]).runs
    assert [(run.parameters["sampling.steps"], run.seed) for run in runs] == [(8, 3), (8, 5), (32, 3), (32, 5)]
    assert [(run.parameters["sampling.steps"], run.seed) for run in compile_plan(path).runs] == [(4, 0)]


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ("{sampling.cfg: [2.0]}", "bases: fashion_mnist: space: sampling.cfg is not an axis of this sweep; use `set`"),
        ("{sampling.steps: []}", "bases.fashion_mnist.space: the axis sampling.steps is empty"),
    ],
)
def test_another_base_varies_the_same_axes(tmp_path: Path, space: str, message: str) -> None:
    path = write_sweep(
        tmp_path, f"name: a\nspace: {{sampling.steps: [4]}}\nbases: {{fashion_mnist: {{space: {space}}}}}\n"
    )
    with pytest.raises(UserError) as error:
        compile_plan(path)
    assert message in str(error.value)


def test_base_beside_the_sweep_and_set_reach_every_run(tmp_path: Path) -> None:
    shipped = (ROOT / "ear" / "configs" / "digits.yaml").read_text()
    (tmp_path / "mine.yaml").write_text(shipped.replace("depth: 2, heads", "depth: 3, heads"))
    text = "name: a\nbase: mine.yaml\nset: {training.batch_size: 32}\nspace: {scoring.alpha: [1.0, 1.5]}\n"
    for run in compile_plan(write_sweep(tmp_path, text)).runs:
        assert (run.config.model.depth, run.config.training.batch_size) == (3, 32)


SWEEPS = {
    "empty axis": ("name: a\nspace: {scoring.alpha: []}", "the axis scoring.alpha is empty"),
    "value twice": ("name: a\nspace: {scoring.alpha: [1.0, 1.0]}", "has the duplicate value 1.0"),
    "no base": ("name: a\nbase: gone.yaml\nspace: {scoring.alpha: [1.0]}", "gone.yaml can't be read"),
    "no parameter": ("name: a\nspace: {scoring.alpa: [1.0]}", "did you mean 'alpha'?"),
    "misspelt key": ("name: a\nspaces: {scoring.alpha: [1.0]}", "did you mean 'space'?"),
    "key twice": ("name: a\nname: b\nspace: {scoring.alpha: [1.0]}", "duplicate key"),
    "no YAML": ("name: [", "not valid YAML"),
    "seed as axis": ("name: a\nspace: {seed: [1]}", "seed can't be an axis"),
    "a name of the program's own files": (
        "name: Store\nspace: {scoring.alpha: [1.0]}",
        "name: this name is reserved for EAR's own files; use another one (for example, sweep-Store) (given: 'Store')",
    ),
    "wrong type": ("name: a\nspace: {scoring.alpha: [high]}", "scoring.alpha: input should be a valid number"),
    "out of range": ("name: a\nspace: {scoring.alpha: [1.0, 2.5]}", "less than or equal to 2 (given: 2.5)"),
    "no metric": ("name: a\nmetric: {name: loss}\nspace: {scoring.alpha: [1.0]}", "metric.name"),
    "two axes for one": (
        "name: a\nspace: {training.stages.1.steps: [5, 6], training.stages.-1.steps: [7]}",
        "space: training.stages.1.steps and training.stages.-1.steps are the same parameter",
    ),
    "a section and a field in it": (
        "name: a\nspace: {model: [{width: 64, depth: 2, heads: 4}], model.width: [16, 64]}",
        "space: model.width is part of model, so one overwrites the other",
    ),
    "a field and its section": (
        "name: a\nspace: {model.width: [16, 64], model: [{width: 32, depth: 2, heads: 4}]}",
        "space: model.width is part of model, so one overwrites the other",
    ),
    "a stage and a field in it, counted from the end": (
        "name: a\nspace: {training.stages.1: [{steps: 5, learning_rate: 0.1}], training.stages.-1.steps: [6]}",
        "training.stages.-1.steps is part of training.stages.1",
    ),
    "set twice": (
        "name: a\nset: {model.width: 64, model: {width: 32, depth: 2, heads: 4}}\nspace: {scoring.alpha: [1.0]}",
        "set: model.width is part of model",
    ),
    "set twice, of two stages": (
        "name: a\nset: {training.stages.-2.steps: 5, training.stages.0.steps: 6}\nspace: {scoring.alpha: [1.0]}",
        "set: training.stages.-2.steps and training.stages.0.steps are the same parameter",
    ),
    "set for nothing": (
        "name: a\nset: {training.stages.-1.steps: 5}\nspace: {training.stages.1.steps: [6, 7]}",
        "set: the axis training.stages.1.steps replaces training.stages.-1.steps in all runs",
    ),
    "set in a section that varies": (
        "name: a\nset: {model.width: 64}\nspace: {model: [{width: 32, depth: 2, heads: 4}]}",
        "set: the axis model replaces model.width in all runs",
    ),
    "set beyond the stages": (
        "name: a\nset: {training.stages.2.steps: 5}\nspace: {scoring.alpha: [1.0]}",
        "set: training.stages.2.steps: training.stages is a list of 2; use an index from 0 to 1",
    ),
    **{
        f"a stage called {name}": (f"name: a\nspace: {{training.stages.{name}.steps: [5]}}", f"not '{name}'")
        for name in ("--1", "²", "1_0", "+1")
    },
    "seed set": ("name: a\nset: {seed: 1}\nspace: {scoring.alpha: [1.0]}", "list it under `seeds`"),
    "threads set": (
        "name: a\nset: {execution.threads: 4}\nspace: {scoring.alpha: [1.0]}",
        "execution.threads has no effect here: `resources.cpus` says how many",
    ),
    "true as seed": ("name: a\nseeds: [true]\nspace: {scoring.alpha: [1.0]}", "seeds.0: a number is needed, not a"),
    "a number as name": (
        "name: 2026\nspace: {scoring.alpha: [1.0]}",
        "name: input should be a valid string; put it",
    ),
    "text as number": ("name: a\nspace: {scoring.alpha: [1.0, '1.5']}", "valid number (given: '1.5')"),
    "an unfilled template": ("name: a\nbase: {{base}}\nspace: {scoring.alpha: [1.0]}", "fill in the {{ }}"),
    "dates": ("name: a\nspace: {scoring.alpha: [2026-11-27]}", "valid number (given: '2026-11-27')"),
    "minutes": ("name: a\nspace: {training.batch_size: [016, 1:30]}", "valid integer (given: '1:30')"),
    "sections that are one": (
        "name: a\nspace: {model: [{width: 32, depth: 2, heads: 4}, {width: 32, depth: 2, heads: 4, mlp_ratio: 4}]}",
        "are the same run",
    ),
    "another reference": (
        "name: a\nspace: {evaluation.reference: [train, test]}",
        "evaluation.reference varies how results are measured (reference)",
    ),
    "another extractor": (
        "name: a\nspace: {evaluation: [{images: 100}, {extractor: vgg16}]}",
        "evaluation varies how results are measured (extractor)",
    ),
    "other images": (
        "name: a\nspace: {data: [{name: digits}, {name: fashion_mnist}]}",
        "data changes the reference images",
    ),
    "other latents, one cache": (
        "name: a\nbase: imagenet256_base\nset: {data.latents: cache}\nspace: {tokenizer.scale: [0.2, 0.3]}",
        "all runs would read the same cache",
    ),
    "neither grid nor search": ("name: a\n", "either `space`, for a grid, or `search`"),
    "a GPU and a half": (
        "name: a\nresources: {gpus: 1.5}\nspace: {scoring.alpha: [1.0]}",
        "or a whole number of GPUs",
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


def test_an_axis_varies_a_field_of_what_set_gives(tmp_path: Path) -> None:
    """Stages that are one anchor change one by one, and the sweep's own values stay as they were written."""
    text = (
        "name: a\n"
        "set: {training.stages: [&warm {steps: 20, learning_rate: 1.0e-3}, *warm], execution: {log_every: 5}}\n"
        "space: {training.stages.-1.train_temperature: [1.0, 0.9], optimizer.betas: [&b [0.9, 0.95], [0.9, 0.99]]}\n"
    )
    plan = compile_plan(write_sweep(tmp_path, text))
    temperatures = [tuple(stage.train_temperature for stage in run.config.training.stages) for run in plan.runs]
    assert temperatures == [(1.0, 1.0), (1.0, 1.0), (1.0, 0.9), (1.0, 0.9)]
    warm = {"steps": 20, "learning_rate": 0.001}
    assert plan.sweep.set == {"training.stages": [warm, warm], "execution": {"log_every": 5}}


def test_set_dotted_leaves_the_value_that_it_sets() -> None:
    section = {"width": 64}
    values: dict[str, Any] = {}
    set_dotted(values, "model", section)
    set_dotted(values, "model.width", 16)
    assert (values, section) == ({"model": {"width": 16}}, {"width": 64})


@pytest.mark.parametrize(("cpus", "gpus", "threads"), [(8, 4, 2), (8, 0.5, 8), (2, 4, 1)])
def test_processes_of_a_trial_share_its_cpus(tmp_path: Path, cpus: int, gpus: float, threads: int) -> None:
    text = f"name: a\nresources: {{cpus: {cpus}, gpus: {gpus}}}\nspace: {{scoring.alpha: [1.0]}}\n"
    assert compile_plan(write_sweep(tmp_path, text)).runs[0].config.execution.threads == threads


def test_a_plan_reads_no_images_to_know_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says that it can't tell what is done, until a command that evaluates has read them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    images, cache = write_images(tmp_path / "images"), tmp_path / "cache"
    assert encode(images, cache)
    data = {"path": images, "latents": cache, "size": SIZE, "classes": 3, "images": 24}
    lines = [f"  data.{name}: {value}" for name, value in data.items()]
    settings = [*lines, "  evaluation.reference: train", "  tokenizer.stride: 4", "  tokenizer.latent_channels: 3"]
    settings += ["  model.width: 32", "  model.depth: 1", "  model.heads: 2"]
    text = ["name: colours", "base: imagenet256_base", "set:", *settings, "space: {scoring.alpha: [1.0, 1.5]}"]
    path = write_sweep(tmp_path, "\n".join(text))

    def said() -> str:
        show_plan(compile_plan(path), Store(tmp_path / "runs"), as_json=False)
        return capsys.readouterr().out

    assert "Finished work can't be determined" in (unread := said())
    assert "24 of the images under" in unread
    monkeypatch.setattr(file_hashes, "SETTLED_NS", -1)
    file_hashes.file_hashes(images, list_images(images).files)
    assert "can't be determined" not in said()
