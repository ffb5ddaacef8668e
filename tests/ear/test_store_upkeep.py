"""Listing, collecting and verifying what is in the store, and who works on what."""

import errno
import json
import os
import random
import re
import socket
import time
from contextlib import nullcontext
from multiprocessing.connection import Connection
from pathlib import Path

import filelock
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from processes import SERVER
from typer.testing import CliRunner
from yaml import safe_dump

from ear.cli.store import app
from ear.config import load_config
from ear.errors import UserError
from ear.files import lease as lease_module
from ear.files.writing import time_in, write_text
from ear.run import Run
from ear.store import Store
from ear.store.collect import SETTLED_SECONDS, collect, entries, find_garbage, reachable
from ear.store.in_use import require_unused
from ear.store.outdated import refuse_outdated
from ear.store.store import FORMAT_VERSION, Kind
from ear.store.uses import record_use, recorded_uses
from ear.store.verify import verify

AN_HOUR_AGO = 2 * SETTLED_SECONDS


def publish(store: Store, key: str, needs: tuple[str, ...] = (), text: str = "content") -> None:
    store.publish(key, "training", lambda folder: (folder / "value").write_text(text) and None, {"step": 1}, needs)


def make_old(path: Path) -> None:
    then = time.time() - AN_HOUR_AGO
    for each in [path, *path.rglob("*")]:
        os.utime(each, (then, then))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_exactly_what_is_out_of_reach_and_old_goes(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    chance = random.Random(seed)
    store = Store(tmp_path_factory.mktemp("root"))
    needs = {f"k{i}": tuple(f"k{j}" for j in range(i) if chance.random() < 0.2) for i in range(12)}
    for key, others in needs.items():
        publish(store, key, others)
        if chance.random() < 0.7:
            make_old(store.path(key))
    used = {key for key in needs if chance.random() < 0.2}
    record_use(store, "sweep a", [*used, "not there yet"])
    needed = reachable(used, needs)
    old = {key for key in needs if time.time() - store.path(key).stat().st_mtime > SETTLED_SECONDS}
    garbage = find_garbage(store)
    assert store.published() == set(needs)  # looking changes nothing
    collect(store, garbage)
    assert store.published() == set(needs) - (old - needed)
    assert find_garbage(store).results == []


def test_unfinished_work_goes_when_nobody_will_go_on_with_it(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for name in ("wanted", "unwanted", "published", "held", "publish-1", "trash-1", "young"):
        store.workspace(name).mkdir()
        if name != "young":
            make_old(store.workspace(name))
    publish(store, "published-too")
    store.workspace("published").rename(store.workspace("published-too"))
    record_use(store, "sweep a", ["wanted", "published-too"])
    with store.lease("held") as lease:
        assert lease.acquire()
        garbage = find_garbage(store)
    assert {path.name for path in garbage.leftovers} == {"unwanted", "published-too", "publish-1", "trash-1"}


@pytest.mark.parametrize("hours", [-2, 2])
def test_what_is_new_by_the_file_server_s_clock_stays_whatever_ours_says(
    hours: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    publish(store, "new")
    publish(store, "old")
    for name in ("new unfinished", "old unfinished"):
        store.workspace(name).mkdir()
    for path in (store.path("old"), store.workspace("old unfinished")):
        make_old(path)
    skewed = time.time() + 3600 * hours
    monkeypatch.setattr(time, "time", lambda: skewed)
    garbage = find_garbage(store)
    assert [entry.key for entry in garbage.results] == ["old"]
    assert [path.name for path in garbage.leftovers] == ["old unfinished"]


def test_the_file_server_s_clock_is_asked_once_for_all_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, asked = Store(tmp_path), []
    for key in ("a", "b", "c"):
        publish(store, key)
        make_old(store.path(key))
        store.workspace(f"unfinished {key}").mkdir()

    def counted(folder: Path) -> float:
        asked.append(folder)
        return time_in(folder)

    monkeypatch.setattr("ear.store.collect.time_in", counted)
    assert len(find_garbage(store).results) == 3
    assert sorted(asked) == sorted([store.folder, store.work])


def test_a_forgotten_user_s_results_go_and_a_report_s_stay(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for key in ("trained", "measured", "reported"):
        publish(store, key, ("trained",) if key != "trained" else ())
        make_old(store.path(key))
    record_use(store, "sweep a", ["measured", "reported"])
    record_use(store, "report a", ["reported"])
    assert find_garbage(store).results == []
    garbage = find_garbage(store, ["sweep a"])
    assert [entry.key for entry in garbage.results] == ["measured"]
    collect(store, garbage, ["sweep a"])
    assert [use.user for use in recorded_uses(store)] == ["report a"]
    with pytest.raises(UserError, match="its users: report a"):
        find_garbage(store, ["sweep b"])


def test_sweeps_of_one_name_are_forgotten_one_by_one_or_together(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for key in ("first", "second", "third"):
        publish(store, key)
        make_old(store.path(key))
        record_use(store, {"first": "sweep a/1", "second": "sweep a/2", "third": "sweep ab/1"}[key], [key])
    assert find_garbage(store).results == []
    assert [entry.key for entry in find_garbage(store, ["sweep a/1"]).results] == ["first"]
    both = find_garbage(store, ["sweep a"])
    assert {entry.key for entry in both.results} == {"first", "second"}
    collect(store, both, ["sweep a"])
    assert [use.user for use in recorded_uses(store)] == ["sweep ab/1"]


def test_a_damaged_record_collects_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    record_use(store, "sweep a", ["x"])
    next(store.uses.iterdir()).write_text("{")
    with pytest.raises(UserError, match="unknown which results are needed"):
        find_garbage(store)


def test_verify_finds_what_changed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for key in ("whole", "flipped", "cut", "gone", "more", "old", "broken"):
        publish(store, key)
    (store.path("flipped") / "value").write_text("Content")
    (store.path("cut") / "value").write_text("con")
    (store.path("gone") / "value").unlink()
    (store.path("more") / "other").write_text("")
    (store.path("broken") / "entry.json").write_text("{")
    entry = json.loads((store.path("old") / "entry.json").read_text())
    del entry["files"], entry["needs"]
    (store.path("old") / "entry.json").write_text(json.dumps(entry))
    found = verify(store)
    assert (found.intact, found.unverifiable, found.unpublished) == (1, 1, {"more": ["other"]})
    assert {key: faults[0].split(" (")[0] for key, faults in found.faults.items() if key != "broken"} == {
        "flipped": "value has changed",
        "cut": "value has changed",
        "gone": "value is missing",
    }
    assert "is damaged" in found.faults["broken"][0]
    assert CliRunner().invoke(app, ["verify", "--root", str(tmp_path)]).exit_code == 1


def test_a_newer_store_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    publish(store, "key")
    entry = json.loads((store.path("key") / "entry.json").read_text())
    (store.path("key") / "entry.json").write_text(json.dumps({**entry, "recipe_version": 99}))
    with pytest.raises(UserError, match="newer version"):
        store.entry("key")
    (store.folder / "format.json").write_text(json.dumps({"version": FORMAT_VERSION + 1}))
    knows = f"(format {FORMAT_VERSION + 1}; this version reads up to {FORMAT_VERSION}): update"
    with pytest.raises(UserError, match=re.escape(knows)):
        Store(tmp_path)


def test_list_and_gc_say_who_needs_what(tmp_path: Path) -> None:
    store = Store(tmp_path)
    publish(store, "a" * 32)
    publish(store, "b" * 32, ("a" * 32,))
    make_old(store.path("a" * 32))
    record_use(store, "sweep alpha", ["b" * 32])
    listed = json.loads(CliRunner().invoke(app, ["list", "--json", "--root", str(tmp_path)]).stdout)
    assert {entry["key"][0]: entry["used_by"] for entry in listed} == {"a": ["sweep alpha"], "b": ["sweep alpha"]}
    said = CliRunner().invoke(app, ["gc", "--root", str(tmp_path), "--forget", "sweep alpha"]).stdout
    assert "Would delete 1 results" in said
    assert "1 are too new to decide" in said
    assert len(entries(store)) == 2


def test_list_says_what_distinguishes_results(tmp_path: Path) -> None:
    """Of a training only what influenced it: not sampling, and not the temperature of a stage after it."""
    store = Store(tmp_path)

    def add(key: str, kind: Kind, details: dict[str, object], **settings: object) -> None:
        given = {"scoring.alpha": 1.0, "sampling.cfg": 1.0, "training.stages.1.train_temperature": 0.99}
        given |= {name.replace("__", "."): value for name, value in settings.items()}
        config = load_config("digits", [f"{name}={value}" for name, value in given.items()]).model_dump(mode="json")
        store.publish(key * 32, kind, lambda folder: write_text(folder / "config.yaml", safe_dump(config)), details)

    add("a", "training", {"step": 1125, "diverged_at": None}, sampling__cfg=7.0)
    add("b", "training", {"step": 1200, "diverged_at": None}, training__stages__1__train_temperature=0.5)
    add("c", "training", {"step": 1200, "diverged_at": 9}, scoring__alpha=1.5, seed=3)
    add("d", "evaluation", {"training": "c" * 32}, sampling__cfg=1.5)
    add("e", "evaluation", {"training": "c" * 32})
    add("f", "evaluation", {"training": "c" * 32})
    publish(store, "0" * 32)  # without a configuration
    listed = json.loads(CliRunner().invoke(app, ["list", "--json", "--root", str(tmp_path)]).stdout)
    found = {entry["key"][0]: entry["parameters"] for entry in listed}
    digits, temperature = {"data.name": "digits", "seed": 0}, "training.stages.1.train_temperature"
    assert found == {
        "a": {**digits, "scoring.alpha": 1.0},
        "b": {**digits, "scoring.alpha": 1.0, temperature: 0.5},
        "c": {**digits, "seed": 3, "scoring.alpha": 1.5, temperature: 0.99},
        "d": {**digits, "sampling.cfg": 1.5},
        "e": {**digits, "sampling.cfg": 1.0},
        "f": {**digits, "sampling.cfg": 1.0},
        "0": {},
    }
    shown = CliRunner().invoke(app, ["list", "--root", str(tmp_path)], env={"COLUMNS": "150"}).stdout
    for words in ("of cccccccccccc digits seed=0 cfg=1.5 ", "digits seed=3 alpha=1.5", "diverged at step 9"):
        assert words in shown
    assert "cfg=1.0" not in shown  # which most have


@pytest.mark.parametrize(
    ("reference", "details", "served"),
    [
        ("image_folder/train", {"training": "t"}, False),  # known by names, sizes, or a cache's sources
        ("image_folder/train", {"training": "t", "reference_hash": "content"}, True),
        ("digits/train", {"training": "t"}, True),  # these were always known by their content, and files too
        ("VIRTUAL_imagenet256_labeled.npz", {"training": "t"}, True),
    ],
)
def test_evaluations_that_are_not_served_any_more_are_named(
    reference: str, details: dict[str, str], served: bool, tmp_path: Path
) -> None:
    store = Store(tmp_path)

    def fill(folder: Path) -> None:
        (folder / "evaluation.json").write_text(json.dumps({"reference": reference}))

    store.publish("e" * 32, "evaluation", fill, details)
    listed, verified = (CliRunner().invoke(app, [name, "--root", str(tmp_path)]) for name in ("list", "verify"))
    assert (listed.exit_code, verified.exit_code) == (0, 0)
    for said in (listed.stdout, verified.stdout):
        assert ("these evaluations are no longer used. Run the sweep" in said) is not served
    assert ("of t, outdated" in listed.stdout) is not served
    (entry,) = json.loads(CliRunner().invoke(app, ["list", "--json", "--root", str(tmp_path)]).stdout)
    assert entry["outdated"] is not served
    assert verify(store).outdated == ([] if served else ["e" * 32])
    with nullcontext() if served else pytest.raises(UserError, match="1 of these evaluations were compared"):
        refuse_outdated(store, ["e" * 32, "not there"])  # as a report does, whose numbers are MLflow's


def hold(root: Path, acquired: Connection) -> None:
    lease = Store(root).lease("key")
    acquired.send(lease.acquire())
    time.sleep(60)


def test_a_lease_is_one_s_alone_and_a_dead_holder_s_is_free(tmp_path: Path) -> None:
    store = Store(tmp_path)
    acquired, other_end = SERVER.Pipe()
    holder = SERVER.Process(target=hold, args=(tmp_path, other_end))
    holder.start()
    assert acquired.recv()
    assert not store.lease("key").acquire()
    assert store.lease("other").acquire()
    holder.kill()
    holder.join()
    first, second = store.lease("key"), store.lease("key")
    assert first.acquire()
    assert not second.acquire()
    first.release()
    assert second.acquire()


def hold_elsewhere(root: Path, seconds: float) -> None:
    socket.gethostname = lambda: "another-machine"
    lease_module.LEASE_SECONDS = seconds
    lease = Store(root).lease("key")
    os._exit(0 if lease.acquire() else 1)  # the machine loses its power


def held_elsewhere(root: Path, seconds: float) -> None:
    holder = SERVER.Process(target=hold_elsewhere, args=(root, seconds))
    holder.start()
    holder.join()
    assert holder.exitcode == 0


def test_a_lease_of_a_machine_that_was_lost_lapses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though nobody here can look whether its holder lives."""
    held_elsewhere(tmp_path, 1.0)
    monkeypatch.setattr(lease_module, "LEASE_SECONDS", 1.0)
    lease = Store(tmp_path).lease("key")
    assert not lease.acquire()
    time.sleep(0.5)
    assert not lease.acquire()
    time.sleep(1.0)
    assert lease.acquire()
    lease.release()


@pytest.mark.parametrize("left", ["by a machine that was lost", "empty, by one that lost its power"])
def test_a_lease_lapses_where_the_file_system_exchanges_no_files(
    left: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on network file systems, where filelock takes nothing over."""
    monkeypatch.setattr(filelock._soft, "exchange_names", lambda *_: False)
    monkeypatch.setattr(lease_module, "LEASE_SECONDS", 0.4)
    lease = Store(tmp_path).lease("key")
    path = tmp_path / "store" / ".work" / "leases" / "key.lease"
    if "empty" in left:
        path.parent.mkdir(parents=True)
        path.touch()
    else:
        held_elsewhere(tmp_path, 0.4)
    assert path.exists()
    started = time.monotonic()
    while not lease.acquire():
        assert time.monotonic() - started < 5
        time.sleep(0.1)
    assert time.monotonic() - started > 0.5
    assert not Store(tmp_path).lease("key").acquire()
    lease.release()


def test_a_lease_that_shows_life_never_lapses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filelock._soft, "exchange_names", lambda *_: False)
    monkeypatch.setattr(lease_module, "LEASE_SECONDS", 0.6)
    with Store(tmp_path).lease("key") as held:
        assert held.acquire()
        other = Store(tmp_path).lease("key")
        started = time.monotonic()
        while time.monotonic() - started < 2.5:
            assert not other.acquire()
            time.sleep(0.1)


def test_a_folder_that_takes_no_leases_stops_nobody(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (store.work / "leases").write_text("a file where the folder should be")
    assert store.lease("key").acquire()


def test_a_lease_that_is_released_under_the_look_at_it_is_not_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    monkeypatch.setattr(Path, "glob", lambda folder, _: iter([folder / "gone.lease"]))
    require_unused(store, "repair")


def test_a_store_whose_leases_can_t_be_looked_at_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    (store.work / "leases").mkdir()
    (store.work / "leases" / "key.lease").touch()

    def read_only(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    for name in ("tempfile.TemporaryFile", "os.utime"):
        monkeypatch.setattr(name, read_only)
    with pytest.raises(UserError, match=r"leases can't be written \(Read-only file system\)"):
        require_unused(store, "repair")


def test_training_waits_for_who_trains_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ear.config import load_config

    monkeypatch.setattr("ear.run.POLL_SECONDS", 0.01)
    short = ["training.stages.0.steps=4", "training.stages.1.steps=2", "optimizer.warmup_steps=2"]
    run = Run(load_config("digits", short), Store(tmp_path))
    lease = run.store.lease(run.keys.stages[0])
    assert lease.acquire()
    asked = 0

    def patience() -> bool:
        nonlocal asked
        asked += 1
        if asked == 3:
            lease.release()
        return False

    outcome = run.train(patience)
    assert asked > 3
    assert outcome is not None
    assert outcome.step == 6
