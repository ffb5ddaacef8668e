"""Where `ear sample` and `ear convert` write is looked at before the work whose result it takes."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from test_convert import TINY, config_of

from ear.cli.convert import convert
from ear.cli.sample import sample
from ear.convert import from_official, to_official
from ear.errors import UserError
from ear.training.checkpoint import CHECKPOINT, CheckpointHeader, load_part, save_checkpoint

GONE = Path("gone.safetensors")  # whoever gets as far as this one has not looked


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("folder", "folder is a folder: give a file in it"),
        ("x.jpg", r"--out .*x\.jpg: the grid is a PNG file; use a name that ends in \.png"),
        ("new", r"a name that ends in \.png"),
        ("file/x.png", "can't be written"),
    ],
)
def test_sample_looks_at_its_output_first(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=message):
        sample(GONE, out=tmp_path / name)
    for fine in ("x.png", "y.PNG"):
        with pytest.raises(UserError, match="There is no checkpoint"):
            sample(GONE, out=tmp_path / fine)


def in_the_store(folder: Path) -> Path:
    (folder / "store" / "key").mkdir(parents=True)
    (folder / "store" / "format.json").touch()
    (folder / "store" / "key" / "entry.json").touch()
    return folder / "store" / "key"


def new_in_the_store(folder: Path) -> Path:
    return in_the_store(folder).parent / "base"


def a_file(folder: Path) -> Path:
    (folder / "file").touch()
    return folder / "file"


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (a_file, "file is a file: give a folder"),
        (in_the_store, "inside a store, which names results by key: give another folder"),
        (new_in_the_store, "inside a store, which names results by key: give another folder"),
        (lambda folder: folder / "x.pth", r"x\.pth: .* is written to a folder: give a folder"),
        (lambda folder: a_file(folder) / "below", "can't be written"),
    ],
)
def test_convert_looks_at_its_output_first(tmp_path: Path, output: Callable[[Path], Path], message: str) -> None:
    with pytest.raises(UserError, match=message):
        convert(tmp_path / "gone.pth", output(tmp_path))


def test_an_official_file_is_not_written_over_a_folder(tmp_path: Path) -> None:
    (tmp_path / "x.pth").mkdir()
    with pytest.raises(UserError, match=r"x\.pth is a folder: give a file"):
        to_official(GONE, tmp_path / "x.pth")


def test_convert_tells_the_two_kinds_by_content(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever they are called."""
    (tmp_path / "official.ckpt").write_bytes(TINY.read_bytes())
    convert(tmp_path / "official.ckpt", tmp_path / "ours")
    renamed = (tmp_path / "ours" / CHECKPOINT).rename(tmp_path / "ours.pt")
    convert(renamed, tmp_path / "again.pth")
    assert "again.pth" in capsys.readouterr().out
    assert torch.equal(
        load_part(from_official(tmp_path / "again.pth", tmp_path / "back"), "ema")["trunk.norm.weight"],
        load_part(renamed, "ema")["trunk.norm.weight"],
    )


@pytest.mark.parametrize("part", ["model", "ema"])
def test_weights_of_ours_that_are_not_finite_are_not_given_to_others(tmp_path: Path, part: str) -> None:
    path = from_official(TINY, tmp_path / "ours")
    parts = {name: load_part(path, name) for name in ("model", "ema")}
    parts[part]["trunk.mask_token"][0] = float("nan")
    sizes = {"size": 64, "stride": 16, "patch": 1, "channels": 4, "classes": 10}
    model = {"width": 32, "depth": 2, "heads": 4, "buffer": 4, "head": 24, "head_depth": 1, "noise": 8}
    save_checkpoint(path, CheckpointHeader(config_of(**sizes, **model), 1, ""), parts)
    with pytest.raises(UserError, match=rf"{part}, has weights that are NaN or infinite: trunk\.mask_token \(1 of"):
        to_official(path, tmp_path / "x.pth")
    assert not (tmp_path / "x.pth").exists()
