"""Damaged checkpoints of unfinished stages begin anew; what was read or began from damage is noticed."""

import json
import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from store_parts import flip

from ear.config import load_config
from ear.errors import UserError
from ear.run import Run
from ear.store import Store
from ear.store.repair import repair
from ear.store.verify import verify
from ear.training.checkpoint import CHECKPOINT, DIGESTS, load_metadata, load_part

SHORT = ["training.stages.0.steps=4", "training.stages.1.steps=4", "optimizer.warmup_steps=1", "execution.log_every=1"]


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The first stage is published, the second has done one step. Not to be changed."""
    run = Run(load_config("digits", SHORT), Store(tmp_path_factory.mktemp("begun")))
    trainer = run.trainer()
    while trainer.step < 5:
        trainer.advance()
    run.save_unfinished(trainer)
    return run


@pytest.fixture
def copied(begun: Run, tmp_path: Path) -> Run:
    shutil.copytree(begun.store.folder, tmp_path / "store")
    return Run(begun.config, Store(tmp_path))


def unfinished(run: Run) -> Path:
    return run.store.workspace(run.keys.stages[1]) / CHECKPOINT


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def into_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def another_step(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"step":"5"', b'"step":"6"'))


@pytest.mark.parametrize("damage", [cut, lambda path: os.truncate(path, 0), flip, another_step, into_a_folder])
def test_a_damaged_unfinished_stage_begins_anew(damage: Callable[[Path], None], copied: Run) -> None:
    assert copied.trainer().step == 5
    damage(unfinished(copied))
    with pytest.warns(UserWarning, match="Stage 2 of 2 restarts from its beginning; the damaged file is in .*damaged-"):
        trainer = copied.trainer()
    assert trainer.step == 4  # the published first stage
    with warnings.catch_warnings(action="error"):
        assert copied.trainer().step == 4  # and the next call hears nothing of it
    copied.save_unfinished(trainer)


def test_a_file_where_the_unfinished_stage_s_folder_is_to_be_makes_way(copied: Run) -> None:
    folder = unfinished(copied).parent
    shutil.rmtree(folder)
    folder.write_text("mine")
    copied.save_unfinished(copied.trainer())
    assert unfinished(copied).is_file()


def test_one_of_an_earlier_version_is_taken_as_it_is(copied: Run) -> None:
    from safetensors.torch import load_file, save_file

    path = unfinished(copied)
    metadata = {name: value for name, value in load_metadata(path).items() if name not in (DIGESTS, "seal")}
    save_file(load_file(path), path, metadata)
    assert copied.trainer().step == 5


def test_a_flipped_bit_is_noticed_by_who_reads_that_part(copied: Run) -> None:
    path = unfinished(copied)
    size = 8 + int.from_bytes(path.read_bytes()[:8], "little")
    header = json.loads(path.read_bytes()[8:size])
    for part in ("model", "ema", "optimizer", "history"):
        start = size + min(value["data_offsets"][0] for name, value in header.items() if name.startswith(f"{part}/"))
        flip(path, start)
        with pytest.raises(UserError, match=f"is damaged: its {part} has changed"):
            load_part(path, part)
        flip(path, start)
        load_part(path, part)


def test_what_began_from_a_damaged_stage_goes_with_it(copied: Run) -> None:
    first, second = copied.keys.stages
    flip(copied.store.path(first) / CHECKPOINT)
    found = verify(copied.store)
    assert (list(found.faults), found.unfinished) == ([first], {second: [first]})
    repair(copied.store, found)
    assert not copied.store.published()
    assert copied.trainer().step == 0


def test_nothing_is_fine_tuned_from_a_damaged_stage(copied: Run, tmp_path: Path) -> None:
    from ear.convert import to_official

    path = copied.store.path(copied.keys.stages[0]) / CHECKPOINT
    tuned = load_config("digits", [*SHORT, f"training.initial_checkpoint={path}"])
    flip(path)
    with pytest.raises(UserError, match="is damaged: its SHA-256 is not the published one"):
        Run(tuned, copied.store).trainer()
    with pytest.raises(UserError, match="is damaged: its SHA-256 is not the published one"):
        to_official(path, tmp_path / "official.pth")
