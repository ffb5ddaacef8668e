"""`ear train`, `ear sample` and `ear evaluate` as a researcher types them, on one short training."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from ear.cli.sample import parse_classes, require_a_grid
from ear.errors import UserError
from ear.training.checkpoint import load_header

EAR = str(Path(sys.executable).parent / "ear")
SHORT = ["training.stages.0.steps=20", "training.stages.1.steps=10", "execution.log_every=10"]
FEW = ["--set", "evaluation.images=100", "--set", "evaluation.null_images=100"]


def ear(*arguments: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([EAR, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def checkpoint(root: Path) -> Path:
    """The store's folder of a training of 30 steps."""
    settings = [part for each in SHORT for part in ("--set", each)]
    first, again = (json.loads(ear("train", "digits", *settings, "--root", root, "--json").stdout) for _ in range(2))
    assert (first["step"], first["reused"], again["reused"]) == (30, False, True)
    assert first["checkpoint"] == again["checkpoint"]
    return Path(first["checkpoint"]).parent


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_an_interrupted_training_says_how_to_go_on_and_loses_nothing(tmp_path: Path, number: signal.Signals) -> None:
    arguments = [EAR, "train", "digits", "--root", str(tmp_path), "--set", "execution.log_every=10"]
    training = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True)
    assert training.stderr is not None
    for line in training.stderr:  # the bar's first line comes with the first steps
        if "training" in line:
            break
    training.send_signal(number)
    said = training.stderr.read()
    assert training.wait(30) == 130
    assert f"Resume with:  ear train digits --root {tmp_path} --set execution.log_every=10" in said
    (saved,) = (tmp_path / "store" / ".work").glob("*/checkpoint.safetensors")
    assert 0 < load_header(saved).step < 1200


def test_sample_draws_a_grid_with_a_row_a_class(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "new folder" / "grid.png"
    done = ear("sample", checkpoint, "--classes", "3,8", "--num", "4", "--out", out, "--set", "sampling.cfg=1.5")
    assert "8 images in" in done.stdout
    # 4 columns and 2 rows of 8 pixels, each 4 wide, with borders of 4.
    assert imread(out).shape == (2 * 36 + 4, 4 * 36 + 4, 3)


def test_sampling_settings_matter_and_repeat(checkpoint: Path, tmp_path: Path) -> None:
    def draw(name: str, *arguments: str) -> np.ndarray:
        ear("sample", checkpoint, "--classes", "1", "--num", "2", "--out", tmp_path / name, *arguments)
        return imread(tmp_path / name)

    plain = draw("a.png")
    assert np.array_equal(draw("b.png", "--set", "execution.batch_size=1"), plain)
    assert not np.array_equal(draw("c.png", "--seed", "1"), plain)
    assert not np.array_equal(draw("d.png", "--set", "sampling.steps=2"), plain)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--classes", "10"], "classes 0 to 9, not 10"),
        (["--set", "scoring.alpha=1.5"], "was trained with its own scoring"),
    ],
)
def test_sample_refuses(arguments: list[str], message: str, checkpoint: Path) -> None:
    assert message in ear("sample", checkpoint, *arguments, code=2).stderr


def test_a_grid_has_a_bound() -> None:
    require_a_grid([0] * 1000, 100)
    with pytest.raises(UserError, match="100,100 images exceed the limit of 100,000 for one grid"):
        require_a_grid([0] * 1001, 100)


def test_classes_are_numbers_with_commas_null_or_all() -> None:
    assert parse_classes("3,8", 10) == [3, 8]
    assert parse_classes(None, 3) == [0, 1, 2]
    assert parse_classes("null", 3) is None
    with pytest.raises(UserError, match="comma-separated numbers"):
        parse_classes("three", 10)


def test_sample_finds_an_unwritable_place_before_it_samples(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = ear("sample", checkpoint, "--out", tmp_path / "file" / "grid.png", code=2)
    assert "can't be written" in done.stderr
    assert "sampling" not in done.stderr  # no bar was shown


def test_evaluate_measures_once_and_labels_its_numbers(checkpoint: Path, root: Path) -> None:
    arguments = ["evaluate", checkpoint, *FEW, "--root", root]
    first = json.loads(ear(*arguments, "--json").stdout)
    assert set(first["metrics"]) >= {
        f"{name}{null}" for name in ("fid", "is", "precision", "recall") for null in ("", "_null")
    }
    assert (first["images"], first["null_images"]) == (100, 100)
    assert first["extractor_accuracy"] >= 0.985
    assert json.loads(ear(*arguments, "--json").stdout) == first  # its seconds too: it was not measured again
    text = ear(*arguments).stdout
    assert f"FID {first['metrics']['fid']:.3f}" in text
    assert first["reference"] in text
