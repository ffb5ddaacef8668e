"""The store publishes once; metrics have their direction; a run goes through both."""

import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from store_parts import copy_result
from torch import Tensor

from ear.config import load_config
from ear.data import ImageDataset, load_dataset
from ear.data.base import evenly_spaced
from ear.evaluation.evaluate import measure
from ear.evaluation.extractors import Features, load_extractor
from ear.evaluation.metrics import (
    StatisticsAccumulator,
    feature_statistics,
    frechet_bias,
    frechet_distance,
    inception_score,
)
from ear.evaluation.reference import Reference
from ear.run import Run
from ear.store import Store, reference_keys, run_keys

TINY = [
    "training.stages.0.steps=30",
    "training.stages.1.steps=10",
    "optimizer.warmup_steps=5",
    "evaluation.images=200",
    "evaluation.null_images=100",
]


def test_of_two_publishers_one_wins_and_both_go_on(tmp_path: Path) -> None:
    store = Store(tmp_path)
    barrier = threading.Barrier(2)

    def publish(text: str) -> None:
        def fill(folder: Path) -> None:
            (folder / "value").write_text(text)
            barrier.wait()

        store.publish("key", "training", fill)

    threads = [threading.Thread(target=publish, args=(text,)) for text in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (store.path("key") / "value").read_text() in "ab"
    assert sorted(path.name for path in store.folder.iterdir()) == [".work", "format.json", "key"]
    assert list((store.folder / ".work").iterdir()) == []


def test_a_failing_publisher_leaves_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def fail(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        store.publish("key", "training", fail)
    assert "key" not in store
    assert list((store.folder / ".work").iterdir()) == []


def test_what_many_want_is_made_by_one_of_them(tmp_path: Path) -> None:
    """By the second one, where the first one fails; the others wait for it."""
    made: list[int] = []
    failed: list[Exception] = []
    all_there = threading.Barrier(4)

    def fill(folder: Path) -> None:
        made.append(len(made))
        time.sleep(0.2)
        if len(made) == 1:
            raise RuntimeError("the first one fails")
        (folder / "features").write_text("x")

    def want() -> None:
        all_there.wait()
        try:
            paths.append(Store(tmp_path).get_or_create("key", "reference", fill))
        except RuntimeError as error:
            failed.append(error)

    paths: list[Path] = []
    threads = [threading.Thread(target=want) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [0, 1]
    assert len(failed) == 1
    assert [path.joinpath("features").read_text() for path in paths] == ["x"] * 3
    assert not list(tmp_path.rglob("*.lease"))


def test_who_waits_for_another_may_give_up(tmp_path: Path) -> None:
    def give_up() -> None:
        raise InterruptedError

    with Store(tmp_path).lease("key") as other:
        assert other.acquire()
        with pytest.raises(InterruptedError):
            Store(tmp_path, on_wait=give_up).get_or_create("key", "reference", lambda _: None)


def test_keys_share_exactly_what_is_shared() -> None:
    dataset = load_dataset(load_config("digits").data)

    def keys(*overrides: str) -> tuple[str, str, str]:
        found = run_keys(load_config("digits", overrides), dataset)
        return *found.stages, found.evaluation

    base = keys()
    late = keys("training.stages.1.train_temperature=0.9")
    assert late[0] == base[0]
    assert late[1] != base[1]
    sampled = keys("sampling.infer_temperature=0.7")
    assert sampled[:2] == base[:2]
    assert sampled[2] != base[2]
    assert keys("execution.log_every=7", "execution.threads=2") == base
    assert not set(keys("scoring.alpha=1.5")) & set(base)


def test_run_trains_and_evaluates_once(digits_store: Path, tmp_path: Path) -> None:
    shutil.copytree(digits_store, tmp_path / "store")
    run = Run(load_config("digits", TINY), Store(tmp_path))
    outcome = run.train()
    assert outcome is not None
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    with pytest.warns(UserWarning, match=r"comes from 200 images of 64 features each.*too high, here by about"):
        evaluation = run.evaluate()
    assert not torch.backends.cudnn.allow_tf32  # float32 means float32
    assert not torch.backends.cuda.matmul.allow_tf32
    assert evaluation.extractor_accuracy is not None
    assert evaluation.extractor_accuracy >= 0.985
    assert (evaluation.reference, evaluation.images) == ("digits/train", 200)
    assert {"fid", "is", "precision", "recall", "fid_null", "is_null"} <= evaluation.metrics.keys()
    assert evaluation.reference_hash == run.dataset.split_hash("train")
    assert run.store.entry(run.keys.evaluation).details["reference_hash"] == evaluation.reference_hash
    assert load_config(str(run.store.path(run.keys.evaluation) / "config.yaml")) == run.config
    times = {path: path.stat().st_mtime_ns for path in run.store.folder.rglob("*") if path.is_file()}
    again = Run(load_config("digits", TINY), Store(tmp_path))
    assert again.train() == outcome
    assert again.evaluate() == evaluation
    assert {path: path.stat().st_mtime_ns for path in run.store.folder.rglob("*") if path.is_file()} == times


def test_a_stopped_run_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    config = load_config("digits", [*TINY, "execution.log_every=10"])
    stopped, whole = Run(config, Store(tmp_path / "a")), Run(config, Store(tmp_path / "b"))
    answers = iter([False, False, True])
    assert stopped.train(lambda: next(answers)) is None
    finished, reference = stopped.train(), whole.train()
    assert finished is not None
    assert reference is not None
    # Wall-clock seconds are part of the file's curve, so weights are compared, not bytes.
    from ear.training.checkpoint import load_part

    for part in ("model", "ema", "optimizer"):
        ours, theirs = load_part(finished.checkpoint, part), load_part(reference.checkpoint, part)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.filterwarnings("ignore:.*alpha")
def test_a_diverged_run_is_a_result(tmp_path: Path) -> None:
    run = Run(load_config("digits", [*TINY, "scoring.alpha=0.5"]), Store(tmp_path))
    outcome = run.train()
    assert outcome is not None
    assert outcome.diverged_at == 1
    assert Run(run.config, run.store).training_outcome() == outcome


def features(values: Tensor) -> Features:
    return Features(values, torch.zeros(len(values), 10))


def reference(values: Tensor) -> Reference:
    return Reference("real", "", feature_statistics(values), values, len(values))


def normal(count: int, seed: int, mean: float = 0.0, scale: float = 1.0) -> Tensor:
    return mean + scale * torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))


def test_a_set_has_no_distance_from_itself() -> None:
    metrics = measure(features(normal(500, 0)), reference(normal(500, 0)), 3)
    assert metrics["fid"] == pytest.approx(0, abs=1e-6)
    assert (metrics["precision"], metrics["recall"]) == (1.0, 1.0)


def test_a_collapsed_generator_has_low_recall_and_high_fid() -> None:
    real, good, collapsed = normal(1000, 0), normal(1000, 1), normal(1000, 1, scale=0.01)
    fine = measure(features(good), reference(real), 3)
    bad = measure(features(collapsed), reference(real), 3)
    assert bad["recall"] < 0.01 < 0.8 < fine["recall"]
    assert bad["precision"] > 0.9
    assert bad["fid"] > 20 * fine["fid"]


def test_what_cannot_be_measured_is_left_out() -> None:
    statistics_only = Reference("adm.npz", "", feature_statistics(normal(100, 0)), None, None)
    assert measure(Features(normal(100, 1), None), statistics_only, 3).keys() == {"fid"}


def test_frechet_distance_of_diagonal_gaussians() -> None:
    """|m1 - m2|^2 + sum (s1 - s2)^2: for means 0 and 1, scales 1 and 2 in 4-D, 4 + 4 = 8."""
    one, other = feature_statistics(normal(200_000, 2)), feature_statistics(normal(200_000, 3, 1.0, 2.0))
    assert frechet_distance(one, other) == pytest.approx(8, rel=0.02)


def test_statistics_of_batches_are_those_of_all() -> None:
    """Far from the origin, where sums of squares lose digits."""
    values = normal(1000, 6, mean=1e4).double()
    accumulator = StatisticsAccumulator()
    for batch in values.split(300):
        accumulator.add(batch)
    found = accumulator.statistics()
    np.testing.assert_allclose(found.mean, values.mean(dim=0).numpy(), rtol=1e-14)
    np.testing.assert_allclose(found.covariance, np.cov(values.numpy(), rowvar=False), rtol=1e-9, atol=1e-12)


def test_bias_of_few_images() -> None:
    """The FID of N images from the true distribution itself is all bias; with half of them it is twice as much."""
    real = feature_statistics(normal(400_000, 7))
    biases = []
    for seed in range(40):
        few = normal(60, 100 + seed)
        biases.append((frechet_bias(few, real), frechet_distance(feature_statistics(few), real)))
    estimated, true = (sum(column) / len(biases) for column in zip(*biases, strict=True))
    assert estimated == pytest.approx(true, rel=0.25)


def test_inception_score_of_certain_and_uniform_classes() -> None:
    certain = torch.full((1000, 10), -100.0)
    certain[torch.arange(1000), torch.arange(1000) % 10] = 100.0
    assert inception_score(certain)["is"] == pytest.approx(10, rel=0.05)
    assert inception_score(torch.zeros(1000, 10))["is"] == pytest.approx(1)


def test_reference_images_are_spread_over_all() -> None:
    assert evenly_spaced(5, 10).tolist() == [0, 1, 2, 3, 4]
    assert evenly_spaced(10, 4).tolist() == [0, 2, 5, 7]


def test_agreement_with_torch_fidelity_end_to_end(digits_store: Path, tmp_path: Path) -> None:
    """Our route, features -> statistics -> metric, against torch-fidelity's own command with our extractor."""
    import torch_fidelity  # 7 seconds, which each worker would take that only collects this test

    config = load_config("digits")
    dataset = load_dataset(config.data)
    key, store = reference_keys(config, dataset)[0], Store(tmp_path)
    copy_result(key, digits_store, store)
    extractor = load_extractor(config.evaluation, key, dataset, store)
    assert isinstance(dataset, ImageDataset)

    class Registered(torch_fidelity.FeatureExtractorBase):  # type: ignore[misc]
        def __init__(self, name: str, features_list: list[str], **kwargs: object) -> None:
            super().__init__(name, features_list)
            self.network = extractor.network

        @staticmethod
        def get_provided_features_list() -> tuple[str, ...]:
            return "features", "logits"

        @staticmethod
        def get_default_feature_layer_for_metric(metric: str) -> str:
            return {"isc": "logits"}.get(metric, "features")

        @staticmethod
        def can_be_compiled() -> bool:
            return False

        def forward(self, images: Tensor) -> tuple[Tensor, ...]:
            found = dict(zip(("features", "logits"), self.network(images[:, :1]), strict=True))
            return tuple(found[name] for name in self.features_list)

    torch_fidelity.register_feature_extractor("digits-classifier", Registered)
    sets = [Images(split.images.expand(-1, 3, -1, -1)) for split in (dataset.test, dataset.train)]
    theirs = torch_fidelity.calculate_metrics(
        input1=sets[0],
        input2=sets[1],
        feature_extractor="digits-classifier",
        cuda=False,
        fid=True,
        isc=True,
        prc=True,
        cache=False,
        verbose=False,
        save_cpu_ram=True,
        isc_splits=10,
    )
    train = extractor.extract(dataset.train.images)
    ours = measure(extractor.extract(dataset.test.images), reference(train.features), 3)
    assert ours["fid"] == pytest.approx(theirs["frechet_inception_distance"], rel=1e-3)
    assert ours["is"] == pytest.approx(theirs["inception_score_mean"], rel=1e-5)
    assert ours["precision"] == pytest.approx(theirs["precision"], abs=2e-3)
    assert ours["recall"] == pytest.approx(theirs["recall"], abs=2e-3)


class Images(torch.utils.data.Dataset[Tensor]):
    """Images as torch-fidelity wants them: uint8, three channels, one at a time."""

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.images[index]
