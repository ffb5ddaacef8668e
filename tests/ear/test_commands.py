"""`ear train`, `ear sample` and `ear evaluate` as a researcher types them, on one short training.

In this process, but for one of each command that begins with nothing imported (evaluate's: test_imagenet_path.py).
"""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from in_process import answer, ear
from matplotlib.image import imread
from processes import run

from ear.cli.sample import parse_classes, require_a_grid
from ear.errors import UserError
from ear.training.checkpoint import load_header

EAR = str(Path(sys.executable).parent / "ear")
SHORT = ["training.stages.0.steps=20", "training.stages.1.steps=10", "execution.log_every=10"]
FEW = ["--set", "evaluation.images=100", "--set", "evaluation.null_images=100"]


@pytest.fixture(scope="module")
def root(digits_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its store has the classifier already."""
    root = tmp_path_factory.mktemp("runs")
    shutil.copytree(digits_store, root / "store")
    return root


@pytest.fixture(scope="module")
def checkpoint(root: Path) -> Path:
    """The store's folder of a training of 30 steps."""
    settings = [part for each in SHORT for part in ("--set", each)]
    first, again = (json.loads(ear("train", "digits", *settings, "--root", root, "--json").stdout) for _ in range(2))
    assert (first["step"], first["reused"], again["reused"]) == (30, False, True)
    assert first["checkpoint"] == again["checkpoint"]
    return Path(first["checkpoint"]).parent


def test_an_interrupted_training_says_how_to_go_on_and_loses_nothing(tmp_path: Path) -> None:
    arguments = [EAR, "train", "digits", "--root", str(tmp_path), "--set", "execution.log_every=10"]
    training = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True)
    assert training.stderr is not None
    for line in training.stderr:  # the bar's first line comes with the first steps
        if "training" in line:
            break
    training.send_signal(signal.SIGINT)
    said = training.stderr.read()
    assert training.wait(30) == 130
    require_saved(tmp_path, said)


class Signalling(io.StringIO):
    """Sends this process a signal when a training's bar has its first line."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__()
        self.number: signal.Signals | None = number

    def write(self, text: str) -> int:
        if "training" in text and self.number is not None:
            number, self.number = self.number, None
            os.kill(os.getpid(), number)
        return super().write(text)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_other_signals_interrupt_as_ctrl_c_does(tmp_path: Path, number: signal.Signals) -> None:
    arguments = ["train", "digits", "--root", tmp_path, "--set", "execution.log_every=10"]
    given = answer(*arguments, stderr=Signalling(number))
    assert given.code == 130
    require_saved(tmp_path, given.stderr)


def require_saved(root: Path, said: str) -> None:
    assert f"Resume with:  ear train digits --root {root} --set execution.log_every=10" in said
    (saved,) = (root / "store" / ".work").glob("*/checkpoint.safetensors")
    assert 0 < load_header(saved).step < 1200


def test_sample_draws_a_grid_with_a_row_a_class(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "new folder" / "grid.png"
    arguments = ["--classes", "3,8", "--num", "4", "--out", str(out), "--set", "sampling.cfg=1.5"]
    assert "8 images in" in run(1, "sample", str(checkpoint), *arguments)
    # 4 columns and 2 rows of 8 pixels, each 4 wide, with borders of 4.
    assert imread(out).shape == (2 * 36 + 4, 4 * 36 + 4, 3)


def test_sampling_settings_matter_and_repeat(checkpoint: Path, root: Path, tmp_path: Path) -> None:
    def draw(name: str, *arguments: str) -> np.ndarray:
        ear("sample", checkpoint, "--classes", "1", "--num", "2", "--out", tmp_path / name, *arguments)
        return imread(tmp_path / name)

    plain = draw("a.png")
    assert np.array_equal(draw("b.png", "--set", "execution.batch_size=1"), plain)
    key = checkpoint.name[:12]  # as `ear store list` prints it
    ear("sample", key, "--root", root, "--classes", "1", "--num", "2", "--out", tmp_path / "e.png")
    assert np.array_equal(imread(tmp_path / "e.png"), plain)
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
    assert json.loads(ear("evaluate", checkpoint.name[:8], *FEW, "--root", root, "--json").stdout) == first


def test_training_evaluates_with_its_own_settings_though_another_trained_the_weights(
    checkpoint: Path, root: Path
) -> None:
    """The checkpoint was written by a run with other sampling settings, which its header has."""
    settings = [part for each in (*SHORT, "sampling.cfg=3.0", *FEW[1::2]) for part in ("--set", each)]
    trained, measured = ear("train", "digits", *settings, "--evaluate", "--json", "--root", root).stdout.splitlines()
    assert json.loads(trained)["reused"]
    guided = ear("evaluate", checkpoint, "--set", "sampling.cfg=3.0", *FEW, "--json", "--root", root).stdout
    assert json.loads(measured) == json.loads(guided)  # its seconds too
    listed = json.loads(ear("store", "list", "--json", "--root", root).stdout)
    (key,) = [each["key"] for each in listed if each["parameters"].get("sampling.cfg") == 3.0]
    assert json.loads(ear("evaluate", key[:8], "--json", "--root", root).stdout) == json.loads(guided)
