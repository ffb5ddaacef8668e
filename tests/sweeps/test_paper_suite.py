"""`ear paper run` and `ear paper report`, on simulated results that are really in the store and in MLflow."""

import csv
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from in_process import ear
from simulated import publish_evaluation, publish_training

from analysis.paper import suite
from analysis.paper.claims import paper_claims
from ear.config.schema import EnergyConfig
from ear.store import Store
from sweeps.spec.runs import PlannedRun

SWEEPS = ("alpha", "alpha_below_1")


def fid(run: PlannedRun) -> float:
    """Rises with alpha, by about the same in each seed, and has a seed's luck."""
    assert isinstance(run.config.scoring, EnergyConfig)
    return 20.0 + 10 * run.config.scoring.alpha + 3.0 * run.seed + 0.1 * np.sin(run.seed + 7 * run.config.scoring.alpha)


def recall(run: PlannedRun) -> float:
    assert isinstance(run.config.scoring, EnergyConfig)
    return 0.001 if run.config.scoring.alpha == 2 else 0.6


@pytest.fixture(scope="module")
def root(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An output root for a suite of two sweeps, with 15 and 6 runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ear.run.from_tensors", lambda _: [])
        patch.setattr("ear.run.load_part", lambda *_: {})
        root, folder = tmp_path_factory.mktemp("runs"), tmp_path_factory.mktemp("suite")
        for name in SWEEPS:
            shutil.copy(suite.FOLDER / f"{name}.yaml", folder)
        patch.setattr(suite, "FOLDER", folder)
        shutil.copy(empty_database, root / "mlflow.db")
        yield root


@pytest.fixture(scope="module")
def published(root: Path) -> Path:
    """Every alpha from 1 on is evaluated; below 1, trainings have diverged in their first stage."""
    store = Store(root)
    for name in SWEEPS:
        plan = suite.plan_on(name, "digits")
        for node in plan.tree.nodes.values():
            assert isinstance(node.config.scoring, EnergyConfig)
            if node.config.scoring.alpha >= 1:
                publish_training(store, node)
            elif node.parent is None:
                publish_training(store, node, diverged_at=1)
        for run in plan.runs if name == "alpha" else ():
            publish_evaluation(store, run, fid(run), recall(run))
            for file in ("samples.png", "samples_null.png"):
                plt.imsave(store.path(run.keys.evaluation) / file, np.zeros((4, 4, 3)))
    return root


def verdicts(root: Path) -> dict[str, dict[str, Any]]:
    return {each["id"]: each for each in json.loads(ear("paper", "report", "--root", root, "--json").stdout)}


@pytest.fixture(scope="module")
def found(published: Path) -> dict[str, dict[str, Any]]:
    """The verdicts, after `ear paper run`."""
    ear("paper", "run", "--root", published)
    return verdicts(published)


def test_the_cost_is_stated_and_nothing_is_reported_before_anything_ran(root: Path) -> None:
    told = ear("paper", "plan", "--root", root).stdout
    assert told.startswith("2 sweeps, 56 runs, 56 trained models. To do: 56 trainings and 50 evaluations, ")
    refused = ear("paper", "report", "--root", root, code=2).stderr
    assert refused == f"error: No sweep of the paper's suite on digits has run in {root}: start with `ear paper run`.\n"
    assert not (root / "paper").exists()


def test_a_suite_that_is_in_the_store_is_only_tracked(published: Path) -> None:
    said = ear("paper", "run", "--root", published).stdout
    assert "2 sweeps, 56 runs, 56 trained models. All are in the store." in said
    assert "Sweep 1 of 2: alpha, 50 runs" in said
    assert "Sweep 2 of 2: alpha_below_1, 6 runs" in said
    assert said.splitlines()[-2:] == [
        "0 runs done now, 56 were already in the store.",
        f"Next:  ear paper report --root {published}    the verdicts on the paper's claims",
    ]


def test_the_verdicts_follow_from_the_results(found: dict[str, dict[str, Any]]) -> None:
    assert list(found) == [claim.id for claim in paper_claims()]
    assert {name: each["verdict"] for name, each in found.items() if each["ours"]} == {
        "alpha_order": "reproduces",
        "alpha_1_is_best": "reproduces",
        "alpha_2_collapses": "reproduces",
        "alpha_2_is": "contradicted",
        "alpha_below_1_diverges": "reproduces",
    }
    assert found["alpha_2_is"]["why"] != ""
    assert found["alpha_below_1_diverges"]["test"] == "6 of 6 trainings diverged, the first at step 1"
    assert found["larger_models"]["verdict"] == "not tested"
    assert found["masked_beats_causal"]["verdict"] == "not yet implemented"


def test_every_number_leads_to_its_runs(published: Path, found: dict[str, dict[str, Any]]) -> None:
    store = Store(published)
    for side in found["alpha_order"]["ours"]:
        values = [
            json.loads((store.path(key) / "evaluation.json").read_text())["metrics"]["fid"] for key in side["keys"]
        ]
        assert sorted(values) == sorted(side["by_seed"].values())
        assert side["mean"] == pytest.approx(np.mean(values))


@pytest.mark.usefixtures("found")
def test_the_page_is_written_again_byte_for_byte(published: Path) -> None:
    folder = published / "paper" / "digits"
    first = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert set(first) == {"report.html", "verdicts.md", "verdicts.csv", "verdicts.json"}
    printed = ear("paper", "report", "--root", published).stdout
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == first
    page = first["verdicts.md"].decode()
    assert printed.startswith("# The paper's claims on digits\n\n| claim | verdict | ours | paper |\n")
    assert page.startswith(printed.partition("\nFiles:")[0].rstrip())
    assert "(../../alpha/report/table.md)" in page
    assert (folder / "../../alpha/report/table.md").exists()
    rows = list(csv.DictReader(first["verdicts.csv"].decode().splitlines()))
    assert rows[0]["paper"] == "FID 3.55 (α 1.0), 3.73 (α 1.25), 4.10 (α 1.5), 4.32 (α 1.75), 188.1 (α 2.0)"
    assert rows[0]["seeds"] == "0 1 2 3 4 5 6 7 8 9"


def test_a_sweep_of_that_name_with_other_settings_is_not_taken_for_the_suites(
    published: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The shipped YAML asks for something else than what ran: nothing is claimed from those runs."""
    for name in SWEEPS:
        text = (suite.FOLDER / f"{name}.yaml").read_text()
        (tmp_path / f"{name}.yaml").write_text(text.replace("space:", "set: {sampling.cfg: 1.5}\nspace:", 1))
    monkeypatch.setattr(suite, "FOLDER", tmp_path)
    order = verdicts(published)["alpha_order"]
    assert (order["verdict"], order["todo"]) == (
        "not tested",
        "alpha ran last with other settings than the suite's: ear paper run --only alpha",
    )


def test_some_sweeps_can_be_chosen(root: Path) -> None:
    told = ear("paper", "plan", "--root", root, "--only", "alpha", "--seeds", "4").stdout
    assert told.startswith("1 sweep, 20 runs, 20 trained models.")
    refused = ear("paper", "run", "--root", root, "--only", "alhpa", code=2).stderr
    assert refused == "error: --only alhpa: the suite has no such sweep; it has alpha, alpha_below_1.\n"


def test_on_slurm_each_sweep_is_a_job(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")  # without sbatch, which would check the script
    said = ear("paper", "run", "--root", root, "--slurm", "cpu", "--dry-run").stdout
    jobs = [line for line in said.splitlines() if line.startswith("#SBATCH --job-name=")]
    assert jobs == ["#SBATCH --job-name=ear-alpha", "#SBATCH --job-name=ear-alpha_below_1"]
    assert not (root / "slurm").exists()
    refused = ear("paper", "run", "--root", root, "--slurm", "cpu", "--seeds", "4", code=2).stderr
    assert "--seeds and --slurm don't go together" in refused


TINY = """
name: {name}
set:
  training.stages: [{{steps: 20, learning_rate: 3.0e-3}}]
  evaluation.images: 200
  evaluation.null_images: 100
space: {{scoring.alpha: {alphas}}}
seeds: [0, 1]
"""


@pytest.mark.slow
def test_a_suite_is_run_in_one_process_and_again_in_seconds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Really trained, on one Ray after another."""
    folder, root = tmp_path / "suite", tmp_path / "runs"
    folder.mkdir()
    for name, alphas in (("alpha", "[1.0, 1.5, 2.0]"), ("alpha_below_1", "[0.5]")):
        (folder / f"{name}.yaml").write_text(TINY.format(name=name, alphas=alphas))
    monkeypatch.setattr(suite, "FOLDER", folder)
    assert "8 runs done now, 0 were already in the store." in ear("paper", "run", "--root", root).stdout
    started = time.monotonic()
    assert "0 runs done now, 8 were already in the store." in ear("paper", "run", "--root", root).stdout
    assert time.monotonic() - started < 10
    found = verdicts(root)
    assert found["alpha_below_1_diverges"]["verdict"] == "reproduces"
    assert [len(side["by_seed"]) for side in found["alpha_order"]["ours"]] == [2, 2, 2]
    # One more seed: what is there is reused, and the report takes all of them.
    assert "4 runs done now, 8 were already" in ear("paper", "run", "--root", root, "--seeds", "3").stdout
    assert [len(side["by_seed"]) for side in verdicts(root)["alpha_order"]["ours"]] == [3, 3, 3]
