"""Checkpoints by the first digits of a key: what tables and `ear store list` show is enough to sample from a result."""

import re
from pathlib import Path

import pytest

from ear.cli.checkpoint import checkpoint_file
from ear.errors import UserError
from ear.store import Store
from ear.store.store import Kind

TRAINING, OTHER = "284beb590dae" + "0" * 52, "284beb59" + "f" * 56
EVALUATION, LONELY, EXTRACTOR = "ab" * 32, "cd" * 32, "ef" * 32


@pytest.fixture
def root(tmp_path: Path) -> Path:
    store = Store(tmp_path / "runs")

    def publish(key: str, kind: Kind, *needs: str) -> None:
        def fill(folder: Path) -> None:
            if kind == "training":
                (folder / "checkpoint.safetensors").touch()

        store.publish(key, kind, fill, needs=needs)

    publish(TRAINING, "training")
    publish(EXTRACTOR, "extractor")
    publish(EVALUATION, "evaluation", EXTRACTOR, TRAINING)
    publish(LONELY, "evaluation", "0" * 64)
    return tmp_path / "runs"


@pytest.mark.parametrize("key", [TRAINING, TRAINING[:12], TRAINING[:8], EVALUATION[:8], EVALUATION])
def test_a_key_or_its_first_digits_lead_to_the_checkpoint(root: Path, key: str) -> None:
    expected = root / "store" / TRAINING / "checkpoint.safetensors"
    assert checkpoint_file(Path(key), root) == expected
    assert checkpoint_file(root / "store" / key, Path("elsewhere")) == expected


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("28", "There is no checkpoint 28: .*`ear store list`"),
        ("284beb5", "There is no checkpoint 284beb5"),
        ("12345678", "No result in .*store has a key that begins with 12345678"),
        (EXTRACTOR[:8], "is the result of kind `extractor`, which has no checkpoint"),
        (LONELY[:8], f"The training that evaluation {LONELY} measured is no longer in .*store"),
    ],
)
def test_what_leads_to_none_is_said(root: Path, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        checkpoint_file(Path(name), root)


def test_digits_that_two_results_share_are_refused(root: Path) -> None:
    Store(root).publish(OTHER, "training", lambda folder: (folder / "checkpoint.safetensors").touch())
    with pytest.raises(UserError, match=f"2 results in .* begin with 284beb59: {TRAINING}, {OTHER}. Give more digits"):
        checkpoint_file(Path("284beb59"), root)
    assert checkpoint_file(Path("284beb59f"), root).parent.name == OTHER


def test_nothing_is_looked_for_outside_of_a_store(root: Path, tmp_path: Path) -> None:
    """And no store is made by looking."""
    for path in (tmp_path / "other" / "284beb59", tmp_path / "store" / "284beb59"):
        with pytest.raises(UserError, match=re.escape(f"There is no checkpoint {path}")):
            checkpoint_file(path, root)
    with pytest.raises(UserError, match="There is no checkpoint 284beb59"):
        checkpoint_file(Path("284beb59"), tmp_path / "empty")
    assert not (tmp_path / "empty").exists()


def test_a_file_of_that_name_comes_first(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("284beb59").touch()
    assert checkpoint_file(Path("284beb59"), root) == Path("284beb59")
