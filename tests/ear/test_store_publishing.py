"""What is published appears whole, on the disk, and whatever lies in its place."""

import os
import warnings
from pathlib import Path

import pytest
from store_parts import A, B, publish
from typer.testing import CliRunner

from ear.cli.store import app
from ear.errors import UserError
from ear.files.writing import write_text
from ear.store import Store
from ear.store.collect import find_garbage
from ear.store.verify import verify
from ear.training.checkpoint import CHECKPOINT


def test_what_lies_in_a_result_s_place_makes_way(store: Store) -> None:
    store.path(A).mkdir()
    (store.path(A) / "value").write_text("mine")
    (store.path(A) / "more").mkdir()
    assert A not in store
    with pytest.warns(UserWarning, match=r"was not a result: it had no entry\.json.*aside-"):
        publish(store, A)
    assert verify(store).intact == 1
    (aside,) = store.work.glob("aside-*")
    assert (aside / "value").read_text() == "mine"
    assert (aside / "more").is_dir()


def test_a_file_in_a_result_s_place_makes_way(store: Store) -> None:
    store.path(A).write_text("mine")
    with pytest.warns(UserWarning, match="was not a result"):
        publish(store, A)
    assert verify(store).intact == 1


def test_a_result_that_comes_meanwhile_never_makes_way(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another publisher puts its own where the foreign folder was, just before this one moves what it saw there."""
    store.path(A).mkdir()
    (store.path(A) / "value").write_text("mine")
    list_ = os.listdir

    def other_comes_first(opened: int) -> list[str]:
        names = list_(opened)
        monkeypatch.undo()
        with warnings.catch_warnings(action="ignore"):
            publish(Store(store.folder.parent), A, value="the other's")
        return names

    monkeypatch.setattr("os.listdir", other_comes_first)
    with pytest.warns(UserWarning, match="was not a result"):
        publish(store, A, value="ours")
    assert (store.path(A) / "value").read_text() == "the other's"
    assert verify(store).intact == 1


def test_of_two_publishers_the_second_one_finds_the_first_one_s_result(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one is done between two looks of the second: no result is there, then one that holds everything."""
    store.path(A).mkdir()
    (store.path(A) / "value").write_text("mine")
    is_a_folder = Path.is_dir

    def other_comes_first(path: Path) -> bool:
        if path == store.path(A):
            monkeypatch.undo()
            with warnings.catch_warnings(action="ignore"):
                publish(Store(store.folder.parent), A, value="the other's")
        return is_a_folder(path)

    monkeypatch.setattr(Path, "is_dir", other_comes_first)
    publish(store, A, value="ours")
    assert (store.path(A) / "value").read_text() == "the other's"
    assert verify(store).intact == 1


def test_a_published_key_has_no_workspace(store: Store) -> None:
    write_text(store.workspace(A) / CHECKPOINT, "unfinished")
    publish(store, A)
    assert not store.workspace(A).exists()
    write_text(store.workspace(A) / CHECKPOINT, "unfinished")
    publish(store, A)  # of two publishers, the second
    assert not store.workspace(A).exists()


def test_everything_is_on_the_disk_before_it_gets_its_name(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """As seen by the system: what is flushed, and what is renamed."""
    flushed: set[int] = set()
    unflushed: list[Path] = []
    flush, replace, rename = os.fsync, os.replace, Path.rename

    def seen_flush(opened: int) -> None:
        flush(opened)
        flushed.add(os.fstat(opened).st_ino)

    def look(source: Path) -> None:
        for path in [source, *source.rglob("*")]:
            if path.stat().st_ino not in flushed:
                unflushed.append(path)

    def seen_replace(source: Path, target: Path) -> None:
        look(Path(source))
        replace(source, target)

    def seen_rename(source: Path, target: Path) -> Path:
        look(source)
        return rename(source, target)

    monkeypatch.setattr("os.fsync", seen_flush)
    monkeypatch.setattr("os.replace", seen_replace)
    monkeypatch.setattr(Path, "rename", seen_rename)
    publish(store, A, value="written by another library, without a flush")
    assert A in store
    assert len(flushed) >= 3
    assert unflushed == []
    assert store.folder.stat().st_ino in flushed  # the new name


def test_one_damaged_entry_hides_no_other_from_the_list_and_the_forecast(store: Store) -> None:
    from sweeps.views.forecast import newest_entries

    publish(store, A)
    publish(store, B)
    (store.path(A) / "entry.json").write_text("{")
    said = CliRunner().invoke(app, ["list", "--root", str(store.folder.parent)])
    assert said.exit_code == 0
    assert B[:12] in said.stdout
    assert "1 more can't be read; `ear store verify` says why" in said.stdout
    assert [entry["key"] for entry in newest_entries(store)] == [B]
    with pytest.raises(UserError, match="verify --repair"):  # what it needs can't be told
        find_garbage(store)
