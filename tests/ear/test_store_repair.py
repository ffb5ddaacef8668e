"""What `ear store verify` says, and what `--repair` removes: what rests on damage, and nothing that can't be told."""

import ctypes
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from store_parts import A, B, C, D, flip, publish
from typer.testing import CliRunner

from ear.cli.store import app
from ear.errors import UserError
from ear.files.writing import write_text
from ear.process.provenance import provenance
from ear.store import Store
from ear.store.collect import find_garbage
from ear.store.repair import REMOVED, lost_seconds, removed_keys, repair
from ear.store.verify import verify

NOBODY = 65534


def test_what_rests_on_a_damaged_result_is_named_and_removed_with_it(store: Store) -> None:
    publish(store, A)
    publish(store, B, (A,))
    publish(store, C, (B,))
    publish(store, D)
    flip(store.path(A) / "value")
    found = verify(store)
    assert (list(found.faults), found.dependent, found.intact) == ([A], {B: [A], C: [A]}, 3)
    root = str(store.folder.parent)
    said = CliRunner().invoke(app, ["verify", "--root", root])
    assert said.exit_code == 1
    assert f"{C}: depends on {A}, so it may have been computed from damaged data" in said.stdout
    assert "--repair` removes the damaged results and 2 results that depend on them" in said.stdout
    assert store.published() == {A, B, C, D}
    said = CliRunner().invoke(app, ["verify", "--repair", "--root", root])
    assert said.exit_code == 0
    assert "Removed the damaged results and 2 results that depend on them." in said.stdout
    assert store.published() == {D}
    assert removed_keys(store) == {A, B, C}
    assert CliRunner().invoke(app, ["verify", "--root", root]).exit_code == 0
    assert not [path.name for path in store.work.iterdir() if path.name != "leases"]


@pytest.mark.parametrize(
    ("change", "dependent", "aside"),
    [
        (lambda folder: (folder / "entry.json").write_text("{"), [B], {"entry.json", "value", "config.yaml"}),
        (lambda folder: (folder / "value").unlink(), [], set()),  # from what is gone nothing was computed
        (lambda folder: flip(folder / "config.yaml"), [], set()),  # nor from what nobody reads
        (lambda folder: [(folder / name).touch() for name in (".DS_Store", "._value")], [], {".DS_Store", "._value"}),
    ],
)
def test_damage_that_nothing_was_computed_from_costs_no_more_than_itself(
    change: Callable[[Path], object], dependent: list[str], aside: set[str], store: Store
) -> None:
    publish(store, A, **{"value": "1", "config.yaml": "seed: 1"})
    publish(store, B, (A,))
    change(store.path(A))
    found = verify(store)
    assert ([*found.faults, *found.unpublished], list(found.dependent)) == ([A], dependent)
    moved = repair(store, found)
    assert store.published() == ({A} if found.unpublished else set()) | ({B} if not dependent else set())
    assert verify(store).faults == verify(store).unpublished == {}
    assert {path.name for folder in moved for path in folder.rglob("*") if path.is_file()} == aside
    assert (store.folder / REMOVED).exists() is bool(found.faults)


def test_what_the_removed_results_took_to_compute(store: Store) -> None:
    """A later stage's entry counts from the start of its training."""

    def fill(folder: Path) -> None:
        write_text(folder / "evaluation.json", json.dumps({"seconds": 60.0}))

    store.publish(A, "training", fill, {"seconds": 3600.0})
    store.publish(B, "training", fill, {"seconds": 5400.0}, (A,))
    store.publish(C, "evaluation", fill, {}, (B,))
    store.publish(D, "reference", fill, {"seconds": 1.0})
    assert [lost_seconds(store, [key]) for key in (A, B, C, D)] == [3600.0, 1800.0, 60.0, 0.0]
    assert lost_seconds(store, [A, B, C]) == 5460.0
    (store.path(C) / "evaluation.json").unlink()
    (store.path(A) / "entry.json").write_text("{")
    assert lost_seconds(store, [C, A]) == 0.0  # as far as they tell
    assert lost_seconds(store, []) == 0.0


def test_a_damaged_list_of_removed_results_is_named(store: Store) -> None:
    (store.folder / REMOVED).write_text("[")
    with pytest.raises(UserError, match=r"\.removed\.json is damaged .*restore this list"):
        removed_keys(store)


def test_unfinished_training_from_damage_is_removed(store: Store) -> None:
    store.workspace(A).mkdir()
    found = verify(store)
    found.unfinished = {A: [B]}  # as `tests/ear/test_unfinished_stages.py` shows
    repair(store, found)
    assert not store.workspace(A).exists()


def test_what_rests_on_damage_goes_though_a_stray_file_lies_in_it(store: Store) -> None:
    publish(store, A)
    publish(store, B, (A,))
    publish(store, C, (B,))
    flip(store.path(A) / "value")
    (store.path(B) / "notes").mkdir()
    (store.path(B) / "notes" / "mine.txt").write_text("mine")
    (store.path(A) / "mine.txt").write_text("mine too")
    said = CliRunner().invoke(app, ["verify", "--root", str(store.folder.parent)])
    assert said.exit_code == 1
    assert f"{store.path(B)}: notes/mine.txt was not published" in said.stdout
    assert "2 results contain files that were not published" in said.stdout
    said = CliRunner().invoke(app, ["verify", "--repair", "--root", str(store.folder.parent)])
    assert said.exit_code == 0
    assert store.published() == set()
    aside = {path.read_text(): path for path in store.work.glob("aside-*/**/mine.txt")}
    assert set(aside) == {"mine", "mine too"}
    assert (
        f"Files that may be yours were moved to {aside['mine too'].parent}, where they stay until `ear store gc`"
        in said.stdout
    )
    assert find_garbage(store).leftovers == []  # not at once


FAULTY_DISK = Path("/proc/self/mem")  # reading its beginning is an I/O error


def change_entry(folder: Path, **values: object) -> None:
    path = folder / "entry.json"
    write_text(path, json.dumps({**json.loads(path.read_text()), **values}))


def on_a_faulty_disk(path: Path) -> None:
    path.unlink()
    path.symlink_to(FAULTY_DISK)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            lambda folder: change_entry(folder, recipe_version=99),
            "written by a newer version of this program: update the program",
        ),
        (
            lambda folder: change_entry(folder, colour="red"),
            "written by a newer version of this program: update the program",
        ),
        (
            lambda folder: change_entry(folder, files={"value": {"sha256": "", "bytes": 1, "mode": 1}}),
            "written by a newer version of this program: update the program",
        ),
        (lambda folder: on_a_faulty_disk(folder / "entry.json"), "entry.json can't be read (Input/output error)"),
        (lambda folder: on_a_faulty_disk(folder / "value"), "can't be read (Input/output error)"),
    ],
)
def test_what_can_not_be_told_is_neither_intact_nor_removed(
    change: Callable[[Path], object], reason: str, store: Store
) -> None:
    if "Input/output" in reason and not FAULTY_DISK.exists():
        pytest.skip("there is no such file here")
    require_unreadable(store, change, reason)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda folder: (folder / "entry.json").chmod(0), "entry.json can't be read (Permission denied)"),
        (lambda folder: (folder / "value").chmod(0), "value can't be read (Permission denied)"),
        (lambda folder: folder.chmod(0o300), "can't be read (Permission denied)"),
    ],
)
def test_what_may_not_be_read_is_neither_intact_nor_removed(
    change: Callable[[Path], object], reason: str, store_of_a_user: Store
) -> None:
    require_unreadable(store_of_a_user, change, reason)


@pytest.fixture
def store_of_a_user() -> Iterator[Store]:
    """A store of somebody whom permissions stop: as far as files go, root is nobody for as long."""
    with tempfile.TemporaryDirectory() as folder:
        root = os.geteuid() == 0
        if root:
            os.chown(folder, NOBODY, NOBODY)
            ctypes.CDLL(None).setfsuid(NOBODY)
        try:
            yield Store(Path(folder))
        finally:
            if root:
                ctypes.CDLL(None).setfsuid(0)


def require_unreadable(store: Store, change: Callable[[Path], object], reason: str) -> None:
    publish(store, A)
    publish(store, B, (A,))
    publish(store, C)
    change(store.path(A))
    flip(store.path(C) / "value")
    arguments = ["verify", "--root", str(store.folder.parent)]
    for more in ([], ["--repair"], ["--repair"]):
        said = CliRunner().invoke(app, [*arguments, *more])
        assert said.exit_code == 1, said.exception
        assert f"{A}: can't be verified: " in said.stdout
        assert reason in said.stdout
        assert "Results that can't be verified, and those that depend on them, stay" in said.stdout
    assert store.published() == {A, B}
    store.path(A).chmod(0o700)
    assert removed_keys(store) == {C}


def test_what_can_not_be_read_and_rests_on_damage_goes_as_a_whole(store: Store) -> None:
    publish(store, A)
    publish(store, B, (A,))
    flip(store.path(A) / "value")
    on_a_faulty_disk(store.path(B) / "value")
    found = verify(store)
    assert (list(found.faults), list(found.unreadable), found.dependent) == ([A], [B], {B: [A]})
    (aside,) = repair(store, found)
    assert (aside / B / "entry.json").exists()
    assert store.published() == set()


@pytest.mark.parametrize("content", ["[]", "{}", "1", '{"recipe_version": "x"}', "[" * 100_000, "\xff"])
def test_an_entry_of_any_content_is_a_damaged_one(content: str, store: Store) -> None:
    publish(store, A)
    (store.path(A) / "entry.json").write_text(content)
    assert "entry.json is damaged" in verify(store).faults[A][0]


def test_versions_that_know_of_no_seal_read_new_results(store: Store) -> None:
    """They refuse a field that they do not know."""
    publish(store, A)
    values = json.loads((store.path(A) / "entry.json").read_text())
    known = {"key", "kind", "recipe_version", "created", "details", "provenance", "needs", "files"}
    assert set(values) == known
    assert set(values["details"]) == {"step", "seconds", "diverged_at"}
    assert set(values["files"]["value"]) == {"sha256", "bytes"}
    assert store.entry(A).provenance == provenance()  # as MLflow is told it
    change_entry(store.path(A), provenance={**values["provenance"], "host": "another"})
    with pytest.raises(UserError, match="has changed since it was published"):
        store.entry(A)
    change_entry(store.path(A), provenance=provenance())  # as an earlier version wrote it
    assert store.entry(A).seal == ""
    assert verify(store).intact == 1


def test_repair_waits_for_nobody(store: Store) -> None:
    publish(store, A)
    flip(store.path(A) / "value")
    with store.lease(B) as lease:
        assert lease.acquire()
        with pytest.raises(UserError, match=r"A process is using .*: stop it, then repair"):
            repair(store, verify(store))
    assert store.published() == {A}
