"""References of real images and torch-fidelity's networks: what is read, and what a user can get wrong."""

import hashlib
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from inception import write_random_inception
from torch import Tensor, nn

from ear.config import load_config
from ear.config.schema import EvaluationConfig
from ear.data import FolderDataset, load_dataset
from ear.errors import UserError
from ear.evaluation.extractors import Extractor, load_extractor
from ear.evaluation.metrics import feature_statistics
from ear.evaluation.reconstruction import reconstruct
from ear.evaluation.reference import load_reference
from ear.store import Store, reference_keys

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


def test_features_of_a_dataset_are_those_of_its_images(tmp_path: Path) -> None:
    config = load_config("digits", ["execution.batch_size=400"])
    dataset = load_dataset(config.data)
    classifier = load_extractor(config.evaluation, "extractor", dataset, Store(tmp_path))
    reference = load_reference(config, reference_keys(config, dataset)[1], dataset, classifier, Store(tmp_path))
    assert not isinstance(dataset, FolderDataset)
    features = classifier.extract(dataset.train.images).features
    torch.testing.assert_close(reference.features, features)
    assert (reference.images, reference.name) == (1297, "digits/train")
    assert reference.content_hash == dataset.split_hash("train")
    np.testing.assert_allclose(reference.statistics.covariance, feature_statistics(features).covariance, rtol=1e-5)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"mu": np.zeros(5)}, r"has no sigma"),
        ({}, r"has no mu and no sigma"),
        ({"mu": np.zeros(2048), "sigma": np.eye(2048)}, r"mean \(2048,\).*colour-moments has 5 features"),
        ({"mu": np.zeros(5), "sigma": np.eye(4)}, r"covariance \(4, 4\)"),
        ({"mu": np.zeros(5), "sigma": np.eye(5), "arr_0": np.zeros((2, 3, 8, 8))}, r"not uint8 \[N, H, W, 3\]"),
    ],
)
def test_a_wrong_statistics_file_is_one_sentence(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(UserError, match=message):
        reference_of(statistics_file(tmp_path / "x.npz", **arrays), tmp_path)


@pytest.mark.parametrize("content", [None, b"", b"no zip"])
def test_an_unreadable_statistics_file_is_one_sentence(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "x.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"x\.npz can't be read"):
        reference_of(str(path), tmp_path)


def inception(weights: Path) -> EvaluationConfig:
    return EvaluationConfig(extractor="inception-v3-compat", extractor_weights=str(weights))


def test_inception_gives_pooled_features_and_logits_of_grey_and_colour_images(tmp_path: Path) -> None:
    write_random_inception(tmp_path / "inception.pth")
    dataset = load_dataset(load_config("digits").data)
    extractor = load_extractor(inception(tmp_path / "inception.pth"), "key", dataset, Store(tmp_path))
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
        ({"weights": Fraction(1, 2)}, r"holds fractions\.Fraction where weights"),
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
    with pytest.raises(UserError, match=r"weights-inception-2015-12-05.*put the file into.*checkpoints"):
        load_extractor(
            EvaluationConfig(extractor="inception-v3-compat"),
            "key",
            load_dataset(load_config("digits").data),
            Store(tmp_path),
        )


def test_an_image_folder_needs_a_named_network(tmp_path: Path) -> None:
    config = load_config("imagenet256_base", ["evaluation.extractor=classifier"])
    with pytest.raises(UserError, match="not for image_folder; name one of torch-fidelity's"):
        load_extractor(config.evaluation, "key", load_dataset(config.data), Store(tmp_path))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("evaluation.reference=test", "an image folder has no test split"),
        ("data.latents=gone", "holds no cached latents"),
        ("seed=0", r"data\.latents is not set"),
    ],
)
def test_an_image_folder_says_what_it_lacks(override: str, message: str) -> None:
    config = load_config("imagenet256_base", [override])
    dataset = load_dataset(config.data)
    ask = dataset.content_hash if "reference" not in override else partial(dataset.split_hash, "test")
    with pytest.raises(UserError, match=message):
        ask()


def test_reconstruction_of_patches(tmp_path: Path) -> None:
    """All pixels of digits come back: the FID of a set from itself. Two components of four do not."""
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
