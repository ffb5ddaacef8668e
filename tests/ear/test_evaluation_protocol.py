"""References of real images and torch-fidelity's networks: what is read, and what a user can get wrong."""

import hashlib
import shutil
from contextlib import nullcontext
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from store_parts import copy_result
from torch import Tensor, nn

from ear.config import load_config
from ear.config.schema import EvaluationConfig
from ear.data import ImageDataset, load_dataset
from ear.data.folder_dataset import FolderDataset
from ear.errors import UserError
from ear.evaluation.classifier import RECIPES, build_classifier
from ear.evaluation.evaluate import evaluate
from ear.evaluation.extractors import Extractor, load_extractor
from ear.evaluation.image_files import ImageFiles, begin_folder
from ear.evaluation.measurable import unmeasured
from ear.evaluation.metrics import feature_statistics
from ear.evaluation.reconstruction import reconstruct
from ear.evaluation.reference import Reference, load_reference, require_enough_images
from ear.store import Store, reference_keys
from ear.store.checkpoint_identity import checkpoint_keys
from ear.training.token_data import load_token_data
from ear.training.trainer import Trainer

FEATURES = 5


class ColourMoments(nn.Module):
    """Five features of an image that a test can compute by itself."""

    def forward(self, images: Tensor) -> tuple[Tensor, None]:
        means = images.double().mean(dim=(2, 3))
        return torch.cat([means, means[:, :2] ** 2], dim=1), None


EXTRACTOR = Extractor("colour-moments", ColourMoments(), torch.device("cpu"), None, "hash")


def images(count: int, seed: int) -> Tensor:
    return torch.randint(0, 256, (count, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def statistics_file(path: Path, **arrays: np.ndarray) -> str:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return str(path)


def reference_of(path: str, root: Path):  # type: ignore[no-untyped-def]
    config = load_config("digits", [f"evaluation.statistics={path}"])
    dataset = load_dataset(config.data)
    return load_reference(config, reference_keys(config, dataset)[1], dataset, EXTRACTOR, Store(root))


def test_statistics_and_images_of_a_file(tmp_path: Path) -> None:
    """ADM's layout: mu and sigma are taken as they stand, features for precision and recall from the images."""
    real = images(20, 0)
    features = EXTRACTOR.extract(real).features
    mean, covariance = np.arange(FEATURES), 2 * np.eye(FEATURES)
    path = statistics_file(tmp_path / "adm.npz", mu=mean, sigma=covariance, arr_0=real.permute(0, 2, 3, 1).numpy())
    reference = reference_of(path, tmp_path)
    assert reference.name == "adm.npz"
    assert reference.content_hash == hashlib.sha256(Path(path).read_bytes()).hexdigest()  # as sha256sum prints it
    np.testing.assert_array_equal(reference.statistics.mean, mean)
    np.testing.assert_array_equal(reference.statistics.covariance, covariance)
    torch.testing.assert_close(reference.features, features)
    without = statistics_file(tmp_path / "statistics.npz", mu=mean, sigma=covariance)
    assert reference_of(without, tmp_path).features is None


def test_features_of_a_dataset_are_those_of_its_images(digits_store: Path, tmp_path: Path) -> None:
    config, store = load_config("digits", ["execution.batch_size=400"]), Store(tmp_path)
    dataset = load_dataset(config.data)
    extractor_key, reference_key = reference_keys(config, dataset)
    copy_result(extractor_key, digits_store, store)
    classifier = load_extractor(config.evaluation, extractor_key, dataset, store)
    reference = load_reference(config, reference_key, dataset, classifier, store)
    assert not isinstance(dataset, FolderDataset)
    features = classifier.extract(dataset.train.images).features
    torch.testing.assert_close(reference.features, features)
    assert (reference.images, reference.name) == (1297, "digits/train")
    assert reference.content_hash == dataset.split_hash("train")
    np.testing.assert_allclose(reference.statistics.covariance, feature_statistics(features).covariance, rtol=1e-5)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"mu": np.zeros(5)}, r"has mu and no sigma; it needs"),
        ({"sigma": np.eye(5), "arr_0": np.zeros((9, 8, 8, 3), np.uint8)}, r"has sigma and no mu"),
        ({"mean": np.zeros(5)}, r"has neither mu and sigma nor arr_0; it needs"),
        ({"mu": np.full(5, np.nan), "sigma": np.eye(5)}, r"mu of .*x\.npz has NaN"),
        ({"mu": np.zeros(5), "sigma": np.diag([1, 1, np.inf, 1, 1])}, r"sigma of .*x\.npz has NaN or infinite"),
        ({"mu": np.zeros(5), "sigma": np.triu(np.ones((5, 5)))}, r"sigma of .* is not a covariance"),
        ({"mu": np.zeros(5), "sigma": -np.eye(5)}, r"sigma of .* is not a covariance"),
        ({"mu": np.zeros(2), "sigma": np.array([[1, 2], [2, 1]])}, r"sigma of .* is not a covariance"),
        ({"mu": np.array(["a"] * 5), "sigma": np.eye(5)}, r"mu of .* has type <U1, not real numbers"),
        ({"arr_0": np.zeros((0, 8, 8, 3), np.uint8)}, r"arr_0 of .* is \(0, 8, 8, 3\): at least two images"),
        ({"arr_0": np.zeros((1, 8, 8, 3), np.uint8)}, r"arr_0 of .* is \(1, 8, 8, 3\): at least two images"),
        ({"arr_0": np.zeros((9, 8, 8), np.uint8)}, r"not uint8 \[N, H, W, 3\]"),
        ({"mu": np.zeros(64), "sigma": np.eye(64)}, r"mean \(64,\).*colour-moments has 5 features"),
        ({"mu": np.zeros(5), "sigma": np.eye(4)}, r"covariance \(4, 4\)"),
        ({"mu": np.zeros(5), "sigma": np.eye(5), "arr_0": np.zeros((2, 3, 8, 8))}, r"not uint8 \[N, H, W, 3\]"),
    ],
)
def test_a_wrong_statistics_file_is_one_sentence(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(UserError, match=message):
        reference_of(statistics_file(tmp_path / "x.npz", **arrays), tmp_path)


@pytest.mark.parametrize("content", [None, b"", b"no zip", b"PK\x03\x04 and no more"])
def test_an_unreadable_statistics_file_is_one_sentence(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "x.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"x\.npz can't be read"):
        reference_of(str(path), tmp_path)


def test_a_single_array_is_no_statistics_file(tmp_path: Path) -> None:
    np.save(tmp_path / "mu.npy", np.zeros(5))
    with pytest.raises(UserError, match=r"mu\.npy can't be read as an npz file: it is a single array"):
        reference_of(str(tmp_path / "mu.npy"), tmp_path)


def test_statistics_are_computed_from_the_images_of_a_file_without_them(tmp_path: Path) -> None:
    """ADM's own format for custom data; known by its content."""
    references = []
    for seed in (0, 1):
        real = images(30, seed)
        path = statistics_file(tmp_path / "custom.npz", arr_0=real.permute(0, 2, 3, 1).numpy())
        reference = reference_of(path, tmp_path)
        features = EXTRACTOR.extract(real).features
        np.testing.assert_allclose(reference.statistics.mean, features.mean(dim=0).numpy())
        np.testing.assert_allclose(reference.statistics.covariance, np.cov(features.numpy(), rowvar=False))
        torch.testing.assert_close(reference.features, features)
        references.append((reference.images, reference.name))
    assert references == [(30, "custom.npz")] * 2
    assert unmeasured(load_config("digits", [f"evaluation.statistics={path}"]).evaluation) == {}


def grey_classifier() -> Extractor:
    """The digits' classifier, not trained."""
    dataset = load_dataset(load_config("digits").data)
    assert isinstance(dataset, ImageDataset)
    network = build_classifier(RECIPES["digits"], dataset).eval()
    return Extractor("digits-classifier", network, torch.device("cpu"), None, "hash", dataset.image_shape)


def test_statistics_for_an_extractor_of_grey_images(tmp_path: Path) -> None:
    config = load_config("digits")
    dataset = load_dataset(config.data)

    def read(name: str, **arrays: np.ndarray):  # type: ignore[no-untyped-def]
        settings = [f"evaluation.statistics={statistics_file(tmp_path / name, **arrays)}"]
        changed = load_config("digits", settings)
        return load_reference(changed, reference_keys(changed, dataset)[1], dataset, grey_classifier(), Store(tmp_path))

    mean, covariance = np.arange(64.0), np.eye(64)
    assert read("fitting.npz", mu=mean, sigma=covariance).statistics.mean[5] == 5
    assert read("grey.npz", arr_0=images(9, 0)[:, :1].permute(0, 2, 3, 1).numpy()).images == 9
    with pytest.raises(UserError, match=r"8x8 pixels in 3 channels, but digits-classifier needs .* in 1 channel:"):
        read("colour.npz", mu=mean, sigma=covariance, arr_0=images(9, 0).permute(0, 2, 3, 1).numpy())
    with pytest.raises(UserError, match="digits-classifier has 64 features"):
        read("another.npz", mu=np.zeros(65), sigma=np.eye(65))


@pytest.mark.parametrize(
    ("overrides", "real", "message"),
    [
        (["evaluation.neighbours=40", "evaluation.images=40"], None, "neighbours is 40, but evaluation.images is 40"),
        (["evaluation.neighbours=1000"], None, "neighbours is 1000, but evaluation.null_images is 1000"),
        ([], 3, r"neighbours is 3, but the number of images of real is 3: precision and recall need more"),
        ([], 4, None),
        ([], None, None),
    ],
)
def test_there_are_more_images_than_neighbours(overrides: list[str], real: int | None, message: str | None) -> None:
    config = load_config("digits", overrides)
    reference = None
    if real is not None:
        features = EXTRACTOR.extract(images(real, 0)).features
        reference = Reference("real", "", feature_statistics(features), features, real)
    with nullcontext() if message is None else pytest.raises(UserError, match=message):
        require_enough_images(config, reference)


def test_what_an_evaluation_is_given_is_looked_at_before_anything_is_sampled(
    inception_file: Path, tmp_path: Path
) -> None:
    covariance = np.eye(2048)
    covariance[3, 3] = np.nan
    statistics = statistics_file(tmp_path / "nan.npz", mu=np.zeros(2048), sigma=covariance)
    settings = {
        "extractor": "inception-v3-compat",
        "extractor_weights": inception_file,
        "statistics": statistics,
    }
    config = load_config("digits", [f"evaluation.{name}={value}" for name, value in settings.items()])
    checkpoint = tmp_path / "checkpoint.safetensors"
    Trainer(config, load_token_data(config)).save(checkpoint)
    dataset = load_dataset(config.data)
    keys = checkpoint_keys(config, dataset, checkpoint, Store(tmp_path))
    sampled: list[float] = []
    with pytest.raises(UserError, match=r"sigma of .* has NaN"):
        evaluate(checkpoint, config, keys, dataset, Store(tmp_path), on_images=sampled.append)
    assert sampled == []


# --- images as files ------------------------------------------------------------------------------------------------


def test_kept_images_are_of_one_evaluation(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    for _ in range(2):  # the same again, as after an interruption, with fewer images this time
        begin_folder(kept, "one")
        assert [path.name for path in kept.iterdir()] == ["evaluation.key"]
        ImageFiles(kept).write(images(2, 0), torch.tensor([3, 4]), 0)
        ImageFiles(kept).write(images(1, 0), None, 0)
    assert len(list(kept.glob("*.png"))) == 3
    with pytest.raises(UserError, match=r"already contains other images \(000000-0003\.png, 3 in all\)"):
        begin_folder(kept, "two")
    (kept / "mine.jpg").touch()
    with pytest.raises(UserError, match=r"already contains other images \(mine\.jpg, 1 in all\)"):
        begin_folder(kept, "one")
    assert len(list(kept.glob("*.png"))) == 3


def inception(weights: Path) -> EvaluationConfig:
    return EvaluationConfig(extractor="inception-v3-compat", extractor_weights=str(weights))


def test_inception_gives_pooled_features_and_logits_of_grey_and_colour_images(
    inception_file: Path, tmp_path: Path
) -> None:
    dataset = load_dataset(load_config("digits").data)
    extractor = load_extractor(inception(inception_file), "key", dataset, Store(tmp_path))
    found = extractor.extract(images(2, 1))
    assert found.logits is not None
    assert (found.features.shape, found.logits.shape) == ((2, 2048), (2, 1008))
    grey = images(1, 2)[:, :1]
    torch.testing.assert_close(extractor.extract(grey).features, extractor.extract(grey.repeat(1, 3, 1, 1)).features)
    assert extractor.accuracy is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "There is no file"),
        (b"junk", "is a text file that begins with 'junk'"),
        ({"conv.weight": torch.zeros(2)}, "are not the weights of inception-v3-compat"),
        ({"weights": Fraction(1, 2)}, r"has fractions\.Fraction where weights"),
    ],
)
def test_wrong_extractor_weights_are_one_sentence(tmp_path: Path, content: object, message: str) -> None:
    path = tmp_path / "inception.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(UserError, match=message):
        load_extractor(inception(path), "key", load_dataset(load_config("digits").data), Store(tmp_path))


def test_weights_that_cannot_be_downloaded_say_what_to_fetch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No network is simulated by a proxy that nobody listens on."""
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(UserError, match=r"weights-inception-2015-12-05.*copy the file to.*checkpoints"):
        load_extractor(
            EvaluationConfig(extractor="inception-v3-compat"),
            "key",
            load_dataset(load_config("digits").data),
            Store(tmp_path),
        )


def test_an_image_folder_needs_a_named_network(tmp_path: Path) -> None:
    config = load_config("imagenet256_base", ["evaluation.extractor=classifier"])
    with pytest.raises(UserError, match="not for image_folder; use one of torch-fidelity's"):
        load_extractor(config.evaluation, "key", load_dataset(config.data), Store(tmp_path))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("evaluation.reference=test", "an image folder has no test split"),
        ("data.latents=gone", "has no cached latents"),
        ("seed=0", r"data\.latents is not set"),
    ],
)
def test_an_image_folder_says_what_it_lacks(override: str, message: str) -> None:
    config = load_config("imagenet256_base", [override])
    dataset = load_dataset(config.data)
    ask = dataset.content_hash if "reference" not in override else partial(dataset.split_hash, "test")
    with pytest.raises(UserError, match=message):
        ask()


def test_reconstruction_of_patches(digits_store: Path, tmp_path: Path) -> None:
    """All pixels of digits come back: the FID of a set from itself. Two components of four do not."""
    shutil.copytree(digits_store, tmp_path / "store")
    dataset = load_dataset(load_config("digits").data)
    results = []
    for overrides in ([], ["tokenizer.components=2"]):
        config = load_config("digits", [*overrides, "evaluation.images=1500"])
        keys = reference_keys(config, dataset)
        results.append(reconstruct(config, *keys, dataset, Store(tmp_path)))
    whole, lossy = results
    assert (whole.images, whole.reference, whole.warning) == (1297, "digits/train", "")
    assert whole.fid == pytest.approx(0, abs=1e-6)
    assert whole.peak_signal_to_noise > 100
    assert lossy.fid > 1
    assert 10 < lossy.peak_signal_to_noise < 30
