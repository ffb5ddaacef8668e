"""No damage is passed on: a file counts as a result only where its bytes are those that were published."""

import ctypes
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ear.cli.store import app
from ear.config import load_config
from ear.data import load_dataset
from ear.distributed import Processes
from ear.errors import UserError
from ear.evaluation import load_evaluation
from ear.files import write_text
from ear.provenance import provenance
from ear.run import Run
from ear.store import Store, checkpoint_keys
from ear.store.collect import find_garbage
from ear.store.repair import removed_keys, repair
from ear.store.verify import require_as_published, verify
from ear.training.checkpoint import CHECKPOINT, DIGESTS, load_metadata, load_part

SHORT = ["training.stages.0.steps=4", "training.stages.1.steps=4", "optimizer.warmup_steps=1", "execution.log_every=1"]
NOBODY = 65534
A, B, C, D = (letter * 32 for letter in "abcd")


def publish(store: Store, key: str, needs: tuple[str, ...] = (), **files: str) -> Path:
    def fill(folder: Path) -> None:
        for name, content in (files or {"value": key}).items():
            (folder / name).write_text(content)

    return store.publish(key, "training", fill, {"step": 1, "seconds": 3600.0, "diverged_at": None}, needs)


def flip(path: Path, at: int = -1) -> None:
    """One bit, in place."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


# --- as what a checkpoint file is evaluated -------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "root")


def training(store: Store, name: str, content: str) -> Path:
    return publish(store, name, **{CHECKPOINT: content}) / CHECKPOINT


def known_as(checkpoint: Path, store: Store) -> str:
    config = load_config("digits")
    return checkpoint_keys(config, load_dataset(config.data), checkpoint, store).training


def test_a_published_file_is_known_by_its_key_by_whichever_way_it_is_reached(store: Store, tmp_path: Path) -> None:
    checkpoint = training(store, A, "weights")
    (tmp_path / "best").symlink_to(checkpoint.parent)
    (tmp_path / "best.safetensors").symlink_to(checkpoint)
    (tmp_path / "alias").symlink_to(store.folder.parent)
    shutil.copytree(store.folder.parent, tmp_path / "copy")
    for path in (checkpoint, tmp_path / "best" / CHECKPOINT, tmp_path / "best.safetensors"):
        assert known_as(path, store) == A
    assert known_as(tmp_path / "alias" / "store" / A / CHECKPOINT, store) == A
    assert known_as(tmp_path / "copy" / "store" / A / CHECKPOINT, Store(tmp_path / "copy")) == A
    assert known_as(tmp_path / "copy" / "store" / A / CHECKPOINT, store) != A


def into_a_copy(store: Store, other: Path, folder: Path) -> Path:
    """`cp -r store/A best`, then B in its place."""
    shutil.copytree(store.path(A), folder / "best")
    shutil.copy(other, folder / "best" / CHECKPOINT)
    return folder / "best" / CHECKPOINT


def into_a_folder_of_that_name(store: Store, other: Path, folder: Path) -> Path:
    shutil.copytree(store.path(A), folder / A)
    shutil.copy(other, folder / A / CHECKPOINT)
    return folder / A / CHECKPOINT


def into_the_store(store: Store, other: Path, _: Path) -> Path:
    shutil.copy(other, store.path(A) / CHECKPOINT)
    return store.path(A) / CHECKPOINT


def by_renaming(store: Store, other: Path, folder: Path) -> Path:
    store.path(A).rename(folder / "away")
    other.parent.rename(store.path(A))
    return store.path(A) / CHECKPOINT


def under_a_link(store: Store, other: Path, _: Path) -> Path:
    (store.path(A) / CHECKPOINT).unlink()
    (store.path(A) / CHECKPOINT).symlink_to(other)
    return store.path(A) / CHECKPOINT


def without_hashes(store: Store, other: Path, folder: Path) -> Path:
    entry = json.loads((store.path(A) / "entry.json").read_text())
    (store.path(A) / "entry.json").write_text(json.dumps({**entry, "files": {}}))
    return into_the_store(store, other, folder)


@pytest.mark.parametrize(
    "put", [into_a_copy, into_a_folder_of_that_name, into_the_store, by_renaming, under_a_link, without_hashes]
)
def test_another_file_under_a_result_s_name_is_not_that_result(
    put: Callable[[Store, Path, Path], Path], store: Store, tmp_path: Path
) -> None:
    training(store, A, "weights")
    other = training(store, B, "Weights")
    key = known_as(put(store, other, tmp_path), store)
    assert key not in (A, B) or (put is under_a_link and key == B)


def test_of_several_processes_the_main_one_reads_the_checkpoint(store: Store, tmp_path: Path) -> None:
    class Second(Processes):
        def from_main(self, value: object) -> Any:
            return A

    config = load_config("digits")
    keys = checkpoint_keys(config, load_dataset(config.data), tmp_path / "not here", store, Second(1, 2))
    assert keys.training == A


def test_a_file_that_is_exchanged_keeping_size_and_time_is_another(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    file.write_text("weights")
    first, times = known_as(file, store), (file.stat().st_atime_ns, file.stat().st_mtime_ns)
    file.write_text("Weights")
    os.utime(file, ns=times)
    assert known_as(file, store) != first


# --- what is read of results ----------------------------------------------------------------------------------------


def test_a_changed_metric_is_not_served(store: Store) -> None:
    publish(store, A, **{"evaluation.json": '{"metrics": {"fid": 915.0}}'})
    write_text(store.path(A) / "evaluation.json", '{"metrics": {"fid": 115.0}}')
    with pytest.raises(UserError, match=r"evaluation\.json is damaged: it is not what was published.*verify --repair"):
        load_evaluation(A, store)


@pytest.mark.parametrize("change", [{"details": {"step": 1, "diverged_at": 3}}, {"needs": [B]}, {"key": B}])
def test_a_changed_entry_is_not_served(change: dict[str, object], store: Store) -> None:
    publish(store, A)
    path = store.path(A) / "entry.json"
    write_text(path, json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(UserError, match=r"entry\.json is damaged .*verify --repair"):
        store.entry(A)
    assert list(verify(store).faults) == [A]


def test_a_renamed_folder_is_not_served(store: Store) -> None:
    publish(store, A).rename(store.path(B))
    with pytest.raises(UserError, match=f"is the entry of {A}, whose folder was renamed or copied"):
        store.entry(B)
    with pytest.raises(UserError, match=f"is the entry of {A}"):
        require_as_published(store.path(B) / "value")


def test_a_published_file_that_is_gone_is_said_to_be(store: Store) -> None:
    publish(store, A)
    (store.path(A) / "value").unlink()
    with pytest.raises(UserError, match=r"value can't be read \(No such file or directory\)"):
        require_as_published(store.path(A) / "value")


# --- what rests on damage -------------------------------------------------------------------------------------------


def test_what_rests_on_a_damaged_result_is_named_and_removed_with_it(store: Store) -> None:
    publish(store, A)
    publish(store, B, (A,))
    publish(store, C, (B,))
    publish(store, D)
    flip(store.path(A) / "value")
    verdict = verify(store)
    assert (list(verdict.faults), verdict.resting, verdict.intact) == ([A], {B: [A], C: [A]}, 3)
    root = str(store.folder.parent)
    said = CliRunner().invoke(app, ["verify", "--root", root])
    assert said.exit_code == 1
    assert f"{C}: rests on {A}, and may have been computed from the damage" in said.stdout
    assert "`ear store verify --repair` removes those that are not, and with them 2 that rest on them" in said.stdout
    assert store.published() == {A, B, C, D}
    said = CliRunner().invoke(app, ["verify", "--repair", "--root", root])
    assert said.exit_code == 0
    assert "Those were removed, and with them 2 that rest on them." in said.stdout
    assert store.published() == {D}
    assert removed_keys(store) == {A, B, C}
    assert CliRunner().invoke(app, ["verify", "--root", root]).exit_code == 0
    assert not [path.name for path in store.work.iterdir() if path.name != "leases"]


@pytest.mark.parametrize(
    ("change", "resting"),
    [
        (lambda folder: (folder / "entry.json").write_text("{"), [B]),
        (lambda folder: (folder / "value").unlink(), []),  # from what is gone nothing was computed
        (lambda folder: flip(folder / "config.yaml"), []),  # nor from what nobody reads
        (lambda folder: (folder / ".DS_Store").touch(), []),
    ],
)
def test_damage_that_nothing_was_computed_from_costs_no_more_than_itself(
    change: Callable[[Path], object], resting: list[str], store: Store
) -> None:
    publish(store, A, **{"value": "1", "config.yaml": "seed: 1"})
    publish(store, B, (A,))
    change(store.path(A))
    verdict = verify(store)
    assert ([*verdict.faults, *verdict.strays], list(verdict.resting)) == ([A], resting)
    moved = repair(store, verdict)
    assert store.published() == ({A} if verdict.strays else set()) | ({B} if not resting else set())
    assert verify(store).faults == verify(store).strays == {}
    left = {path.name for folder in moved for path in folder.rglob("*") if path.is_file()}
    assert left in (set(), {".DS_Store"}, {"entry.json", "value", "config.yaml"})
    assert (".DS_Store" in left) is bool(verdict.strays)


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
    assert f"{store.path(B)}: notes/mine.txt does not belong there" in said.stdout
    assert "In 2 results lie files that were not published" in said.stdout
    said = CliRunner().invoke(app, ["verify", "--repair", "--root", str(store.folder.parent)])
    assert said.exit_code == 0
    assert store.published() == set()
    aside = {path.read_text(): path for path in store.work.glob("aside-*/**/mine.txt")}
    assert set(aside) == {"mine", "mine too"}
    assert f"What may be yours was moved to {aside['mine too'].parent}, until `ear store gc`" in said.stdout
    assert find_garbage(store).leftovers == []  # not at once


# --- what can't be told ---------------------------------------------------------------------------------------------

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
        (lambda folder: change_entry(folder, recipe_version=99), "made by a newer version of this program: update it"),
        (lambda folder: change_entry(folder, colour="red"), "made by a newer version of this program: update it"),
        (
            lambda folder: change_entry(folder, files={"value": {"sha256": "", "bytes": 1, "mode": 1}}),
            "made by a newer version of this program: update it",
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
    require_untold(store, change, reason)


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
    require_untold(store_of_a_user, change, reason)


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


def require_untold(store: Store, change: Callable[[Path], object], reason: str) -> None:
    publish(store, A)
    publish(store, B, (A,))
    publish(store, C)
    change(store.path(A))
    flip(store.path(C) / "value")
    arguments = ["verify", "--root", str(store.folder.parent)]
    for more in ([], ["--repair"], ["--repair"]):
        said = CliRunner().invoke(app, [*arguments, *more])
        assert said.exit_code == 1, said.exception
        assert f"{A}: can't be told: " in said.stdout
        assert reason in said.stdout
        assert "What can't be told stays as it is, and so does what rests on it" in said.stdout
    assert store.published() == {A, B}
    store.path(A).chmod(0o700)
    assert removed_keys(store) == {C}


def test_what_can_not_be_read_and_rests_on_damage_goes_as_a_whole(store: Store) -> None:
    publish(store, A)
    publish(store, B, (A,))
    flip(store.path(A) / "value")
    on_a_faulty_disk(store.path(B) / "value")
    verdict = verify(store)
    assert (list(verdict.faults), list(verdict.untold), verdict.resting) == ([A], [B], {B: [A]})
    (aside,) = repair(store, verdict)
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
    with pytest.raises(UserError, match="not what was published"):
        store.entry(A)
    change_entry(store.path(A), provenance=provenance())  # as an earlier version wrote it
    assert store.entry(A).seal == ""
    assert verify(store).intact == 1


def test_repair_waits_for_nobody(store: Store) -> None:
    publish(store, A)
    flip(store.path(A) / "value")
    with store.lease(B) as lease:
        assert lease.acquire()
        with pytest.raises(UserError, match=r"Somebody works on .*: stop it, then repair"):
            repair(store, verify(store))
    assert store.published() == {A}


# --- damage that every call would meet again ------------------------------------------------------------------------


def test_what_lies_in_a_result_s_place_makes_way(store: Store) -> None:
    store.path(A).mkdir()
    (store.path(A) / "value").write_text("mine")
    (store.path(A) / "more").mkdir()
    assert A not in store
    with pytest.warns(UserWarning, match=r"held no result, for it lacked entry\.json.*aside-"):
        publish(store, A)
    assert verify(store).intact == 1
    (aside,) = store.work.glob("aside-*")
    assert (aside / "value").read_text() == "mine"
    assert (aside / "more").is_dir()


def test_a_file_in_a_result_s_place_makes_way(store: Store) -> None:
    store.path(A).write_text("mine")
    with pytest.warns(UserWarning, match="held no result"):
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
    with pytest.warns(UserWarning, match="held no result"):
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
    from sweeps.forecast import newest_entries

    publish(store, A)
    publish(store, B)
    (store.path(A) / "entry.json").write_text("{")
    said = CliRunner().invoke(app, ["list", "--root", str(store.folder.parent)])
    assert said.exit_code == 0
    assert B[:12] in said.stdout
    assert "1 more can't be read: `ear store verify` says why" in said.stdout
    assert [entry["key"] for entry in newest_entries(store)] == [B]
    with pytest.raises(UserError, match="verify --repair"):  # what it needs can't be told
        find_garbage(store)


# --- unfinished stages ----------------------------------------------------------------------------------------------


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
    with pytest.warns(UserWarning, match="Stage 2 of 2 begins anew; what it had is in .*damaged-"):
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
    verdict = verify(copied.store)
    assert (list(verdict.faults), verdict.unfinished) == ([first], {second: [first]})
    repair(copied.store, verdict)
    assert not copied.store.published()
    assert copied.trainer().step == 0


def test_nothing_is_fine_tuned_from_a_damaged_stage(copied: Run, tmp_path: Path) -> None:
    from ear.convert import to_official

    path = copied.store.path(copied.keys.stages[0]) / CHECKPOINT
    tuned = load_config("digits", [*SHORT, f"training.initial_checkpoint={path}"])
    flip(path)
    with pytest.raises(UserError, match="is damaged: it is not what was published"):
        Run(tuned, copied.store).trainer()
    with pytest.raises(UserError, match="is damaged: it is not what was published"):
        to_official(path, tmp_path / "official.pth")
