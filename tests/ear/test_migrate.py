"""A store that the state before wrote (golden/store_1.tar.gz, by commit 795eec7) is carried over and computed no more.

In it: two stages of a training, its evaluation, another one whose settings a sweep's config.yaml has, a third one whose
settings nobody recorded, and an unfinished training of another seed.
"""

import json
import os
import shutil
import tarfile
import time
from contextlib import suppress
from pathlib import Path

import pytest
from in_process import ear
from processes import run
from safetensors import safe_open

from ear.config import RunConfig, load_config
from ear.errors import UserError
from ear.files.writing import write_json
from ear.run import Run
from ear.store import Store
from ear.store.collect import entries
from ear.store.migrate import migrate
from ear.store.store import Entry, hash_files
from ear.store.uses import recorded_uses
from ear.store.verify import verify
from ear.training.checkpoint import CHECKPOINT, load_header

ARCHIVE = Path(__file__).parent / "golden" / "store_1.tar.gz"
FIRST, LAST, UNFINISHED = (
    "7b9f0a593c580923fcd8040bb25dd3c4",
    "bb0453d1d015bc2942953dda6e25c0de",
    "097c5e039ac1a42dae5292ddb6b47d6d",
)
NOWHERE = "no config.yaml has its settings, or their autoencoder no longer exists"
EVALUATED, GUIDED, UNRECORDED = (
    "95c958353feb1e42153f58c44c1e0f89",
    "033e43cb2a6a0856393e07e70b73a196",
    "eb07f3b7bcd067429619ebeb764a1d59",
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


def config_of(root: Path, *overrides: str) -> RunConfig:
    return load_config(
        str(Store(root, any_format=True).path(FIRST) / "config.yaml"), ["execution.precision=float32", *overrides]
    )


def tensors(checkpoint: Path) -> dict[str, bytes]:
    with safe_open(checkpoint, framework="pt") as file:
        return {name: file.get_tensor(name).numpy().tobytes() for name in file.keys()}  # noqa: SIM118


def on_a_gpu(root: Path, *keys: str) -> None:
    """As if these results had been computed on one."""
    for key in keys:
        path = root / "store" / key / "entry.json"
        values = json.loads(path.read_text())
        write_json(path, {**values, "provenance": {**values["provenance"], "accelerator": "NVIDIA H100"}})


def test_everything_that_says_what_it_is_is_carried_over(root: Path) -> None:
    config, guided = config_of(root), config_of(root, "sampling.cfg=2", "sampling.infer_temperature=0.8")
    before = {key: hash_files(root / "store" / key) for key in (FIRST, LAST, EVALUATED, GUIDED)}
    done = migrate(root)
    assert set(done.carried) == set(before)
    assert list(done.unfinished) == [UNFINISHED]
    assert done.left == {UNRECORDED: NOWHERE}
    store = Store(root)
    run = Run(config, store)
    assert list(run.keys.stages) == [done.carried[FIRST], done.carried[LAST]]
    assert (run.keys.evaluation, Run(guided, store).keys.evaluation) == (done.carried[EVALUATED], done.carried[GUIDED])
    outcome, evaluation = run.training_outcome(), run.evaluation()
    assert outcome is not None
    assert outcome.step == 8
    assert evaluation is not None
    assert evaluation.metrics["fid"] == pytest.approx(1288.904, abs=1e-3)
    assert Run(guided, store).evaluation() is not None
    # Byte for byte, but for the configuration, which is written as it is now, and kept with evaluations too.
    for old, files in before.items():
        new = hash_files(store.path(done.carried[old]))
        assert {name for name in new if files.get(name) != new[name]} == {"config.yaml"}
        assert not store.path(old).exists()
    assert store.entry(done.carried[EVALUATED]).details == {"training": done.carried[LAST]}
    assert store.entry(done.carried[EVALUATED]).needs[0] == done.carried[LAST]
    assert store.entry(done.carried[LAST]).needs == (done.carried[FIRST],)
    found = verify(store)
    assert (found.intact, found.faults) == (5, {})


def test_what_is_carried_over_is_not_computed_again_and_goes_on(root: Path) -> None:
    done = migrate(root)
    store = Store(root)
    config = config_of_new(store, done.carried[FIRST])
    assert Run(config, store).train() == Run(config, store).training_outcome()
    other = Run(config.model_copy(update={"seed": 4}), store)
    assert other.trainer().step == 4  # where it was interrupted
    outcome = other.train()
    assert outcome is not None
    assert outcome.step == 8


def config_of_new(store: Store, key: str) -> RunConfig:
    return load_config(str(store.path(key) / "config.yaml"))


def test_users_need_the_new_keys(root: Path) -> None:
    done = migrate(root)
    uses = {use.user: use.keys for use in recorded_uses(Store(root))}
    assert uses["train small ab3bec54"] == {done.carried[FIRST], done.carried[LAST]}
    assert uses["evaluate bb0453d1d015 eb07f3b7"] == {done.carried[LAST], UNRECORDED}


def test_settings_may_lie_elsewhere(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    (root / "mlartifacts" / "s" / "abc" / "artifacts" / "config.yaml").rename(root / "config.yml")
    other = tmp_path_factory.mktemp("elsewhere")
    (root / "config.yml").rename(other / "config.yaml")
    done = migrate(root, [other])
    assert GUIDED in done.carried


def test_an_earlier_store_is_not_passed_over_in_silence(root: Path) -> None:
    with pytest.raises(UserError, match=r"ear store migrate --root"):
        Store(root)
    assert f"ear store migrate --root {root}" in ear("train", "digits", "--root", root, code=2).stderr
    said = run(1, "store", "migrate", "--root", str(root))
    assert "Migrated: 2 training stages, 2 evaluations and 1 unfinished stages." in said
    assert f"Not migrated: evaluation eb07f3b7bcd0: {NOWHERE}." in said
    again = ear("store", "migrate", "--root", root)
    assert "Migrated: 0 training stages, 0 evaluations and 0 unfinished stages." in again.stdout


def test_an_empty_one_is_taken_as_it_is(tmp_path: Path) -> None:
    write_json(tmp_path / "store" / "format.json", {"version": 1})
    Store(tmp_path)
    assert json.loads((tmp_path / "store" / "format.json").read_text()) == {"version": 2}


def test_auto_on_a_gpu_was_bfloat16(root: Path) -> None:
    on_a_gpu(root, FIRST, LAST, EVALUATED)
    before = tensors(root / "store" / LAST / CHECKPOINT)
    config = config_of(root, "execution.precision=bfloat16")
    done = migrate(root)
    store = Store(root)
    run = Run(config, store)
    assert run.keys.stages == (done.carried[FIRST], done.carried[LAST])
    assert run.keys.evaluation == done.carried[EVALUATED]
    checkpoint = store.path(done.carried[LAST]) / CHECKPOINT
    assert load_header(checkpoint).config.execution.precision == "bfloat16"
    assert tensors(checkpoint) == before
    # The other evaluation was made on a CPU, so in float32; the unfinished training is taken for what the others are.
    cpu = Run(config_of_new(store, done.carried[GUIDED]), store)
    assert cpu.config.execution.precision == "float32"
    assert (
        load_header(store.workspace(done.unfinished[UNFINISHED]) / CHECKPOINT).config.execution.precision == "bfloat16"
    )
    assert verify(store).faults == {}


def test_stages_of_different_precisions_are_left(root: Path) -> None:
    on_a_gpu(root, LAST)
    done = migrate(root)
    assert "different precisions" in done.left[LAST]
    assert "can't be migrated" in done.left[EVALUATED]
    assert list(done.carried) == [FIRST]


def test_an_evaluation_of_either_precision_is_left(root: Path) -> None:
    """Both had one key, so that nothing tells which of them was served for both."""
    path = root / "mlartifacts" / "s" / "abc" / "artifacts" / "config.yaml"
    (path.parent / "other").mkdir()
    (path.parent / "other" / "config.yaml").write_text(
        path.read_text().replace("precision: auto", "precision: bfloat16")
    )
    done = migrate(root)
    assert "two precisions" in done.left[GUIDED]
    assert EVALUATED in done.carried


@pytest.mark.parametrize("name", [CHECKPOINT, "config.yaml", "entry.json"])
def test_damage_is_not_passed_on(root: Path, name: str) -> None:
    path = root / "store" / LAST / name
    path.write_bytes(path.read_bytes()[:-20] + b"!" * 20)
    done = migrate(root)
    assert "damaged" in done.left[LAST]
    assert LAST not in done.carried
    assert path.exists()


def test_not_while_somebody_works_on_it(root: Path) -> None:
    with Store(root, any_format=True).lease(LAST) as lease:
        assert lease.acquire()
        with pytest.raises(UserError, match="stop it, then migrate"):
            migrate(root)


@pytest.mark.parametrize("survives", range(10))
def test_killed_anywhere_it_goes_on(root: Path, survives: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ends it at its n-th rename, of nine; the next call ends as an undisturbed one."""
    left = iter([True] * survives)

    def mortal(path: Path, target: Path) -> Path:
        if not next(left, False):
            raise KeyboardInterrupt
        return renamed(path, target)

    renamed = Path.rename
    with monkeypatch.context() as context:
        context.setattr(Path, "rename", mortal)
        with suppress(KeyboardInterrupt):
            migrate(root)
    config = migrated_config(root)
    migrate(root)
    store = Store(root)
    run = Run(config, store)
    assert run.evaluation() is not None
    assert (store.workspace(Run(config.model_copy(update={"seed": 4}), store).keys.stages[0]) / CHECKPOINT).exists()
    assert {entry.kind for entry in entries(store)} == {"training", "evaluation"}
    assert len(entries(store)) == 5
    uses = {use.user: use.keys for use in recorded_uses(store)}
    assert uses["train small ab3bec54"] == set(run.keys.stages)
    assert [path.name for path in store.work.iterdir() if path.name.startswith("trash")] == []


def migrated_config(root: Path) -> RunConfig:
    path = next(
        path
        for path in sorted((root / "store").glob("*/config.yaml"))
        if Entry.load(path.with_name("entry.json")).kind == "training"
    )
    return load_config(str(path), ["execution.precision=float32"])


def test_what_was_left_is_carried_by_a_later_call(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The first call knew too few settings, and the trainings have gone to their new keys since."""
    elsewhere = tmp_path_factory.mktemp("mlflow") / "artifacts"
    (root / "mlartifacts").rename(elsewhere)
    expected = Run(config_of(root, "sampling.cfg=2", "sampling.infer_temperature=0.8"), Store(root, any_format=True))
    first = migrate(root)
    assert set(first.left) == {GUIDED, UNRECORDED}
    assert not (root / "store" / LAST).exists()
    second = migrate(root, [elsewhere])
    assert second.carried == {GUIDED: expected.keys.evaluation}
    assert set(second.left) == {UNRECORDED}
    assert Run(expected.config, Store(root)).evaluation() is not None


def test_settings_of_another_training_decide_no_precision(root: Path) -> None:
    path = root / "mlartifacts" / "s" / "abc" / "artifacts" / "config.yaml"
    (path.parent / "other").mkdir()
    other = path.read_text().replace("precision: auto", "precision: bfloat16").replace("seed: 3", "seed: 99", 1)
    (path.parent / "other" / "config.yaml").write_text(other)
    (path.parent / "config.yaml").write_text(path.read_text())
    assert set(migrate(root).left) == {UNRECORDED}


def test_an_evaluation_of_what_is_gone_is_left(root: Path) -> None:
    shutil.rmtree(root / "store" / LAST)
    done = migrate(root)
    assert "is not in this store" in done.left[EVALUATED]
    assert list(done.carried) == [FIRST]


def test_an_evaluation_against_a_folder_s_images_is_left(root: Path) -> None:
    """Format 1 did not know these by their content, and neither does the key that it would get."""
    path = root / "store" / EVALUATED / "evaluation.json"
    write_json(path, {**json.loads(path.read_text()), "reference": "image_folder/train"})
    assert "not identified by content: evaluate again" in migrate(root).left[EVALUATED]


def test_odd_files_are_passed_over(root: Path) -> None:
    (root / "mlartifacts" / "config.yaml").write_text(
        "seed: 1\ndata: x\ntokenizer: gpt2\nmodel: 2\nscoring: 1\noptimizer: 1\ntraining: 1\n"
        "sampling: {}\nevaluation: {}\nexecution: {precision: auto, device: cpu}\n"
    )
    assert set(migrate(root).left) == {UNRECORDED}


def test_a_store_without_a_format_is_an_earlier_one(root: Path) -> None:
    (root / "store" / "format.json").unlink()
    with pytest.raises(UserError, match=r"ear store migrate --root"):
        Store(root)
    assert FIRST in migrate(root).carried


def test_a_clock_that_is_ahead_makes_no_lease_a_lost_machine_s(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store(root, any_format=True).lease(LAST) as lease:
        assert lease.acquire()
        ahead = time.time() + 600
        monkeypatch.setattr(time, "time", lambda: ahead)
        with pytest.raises(UserError, match="A process is using"):
            migrate(root)


def test_a_lost_machine_s_lease_blocks_nothing(root: Path) -> None:
    lease = root / "store" / ".work" / "leases" / f"{LAST}.lease"
    lease.parent.mkdir()
    lease.write_text("")
    os.utime(lease, (1, 1))
    assert LAST in migrate(root).carried


def test_what_another_training_started_from_stays(root: Path) -> None:
    """Its key holds that file's content, and its configuration the path."""
    initial = root / "store" / LAST / CHECKPOINT
    store = Store(root, any_format=True)
    tuned = Run(config_of(root, f"training.initial_checkpoint={initial}", "seed=9"), store)
    assert tuned.train() is not None
    migrate(root)
    assert Run(tuned.config, Store(root)).training_outcome() is not None
