"""The examples of docs/library.md run, one after another, on a sweep that is in the store."""

import re
from pathlib import Path
from typing import Any

import pytest
from simulated import plan_of, publish_evaluation, publish_training

import analysis
from ear.store import Store
from sweeps.driver.run_sweep import run_sweep

PAGE = Path(__file__).parents[2] / "docs" / "library.md"
SWEEP = "name: alpha\nseeds: [0, 1, 2]\nspace: {scoring.alpha: [1.0, 1.5, 2.0]}\n"
EXAMPLE = re.compile("`{3}python\n(.*?)`{3}", re.DOTALL)


@pytest.mark.usefixtures("database")
def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("ear.run.from_tensors", lambda _: [])
    monkeypatch.setattr("ear.run.load_part", lambda *_: {})
    root = tmp_path / "runs"
    root.mkdir()
    (tmp_path / "mlflow.db").rename(root / "mlflow.db")
    plan, store = plan_of(tmp_path, SWEEP), Store(root)
    for node in plan.tree.nodes.values():
        publish_training(store, node)
    for run in plan.runs:
        alpha = run.config.scoring.alpha  # type: ignore[union-attr]
        publish_evaluation(store, run, 20.0 * alpha + 0.1 * run.seed * alpha, recall=0.9 - alpha / 4)
        for name in ("samples.png", "samples_null.png"):
            (store.path(run.keys.evaluation) / name).write_bytes(b"")
    run_sweep(plan, root)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for example in EXAMPLE.findall(PAGE.read_text(encoding="utf-8")):
        exec(compile(example, str(PAGE), "exec"), names)
    assert len(names["runs"]) == 9
    assert names["best"] == {"fid": {0}}
    assert "2 pairs of neighbours differ" in capsys.readouterr().out
    assert (tmp_path / "alpha.tex").exists()
    assert {file.name for file in (tmp_path / "plots").iterdir()} == {"fid.png", "fid.pdf"}


def test_the_package_says_what_it_has() -> None:
    with pytest.raises(AttributeError, match="no attribute 'load_run'"):
        analysis.load_run  # noqa: B018
