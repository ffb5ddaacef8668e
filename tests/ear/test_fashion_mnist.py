"""Fashion-MNIST: idx files, principal components of patches, and the classifier whose features judge the samples."""

import dataclasses
import gzip
import json
import struct
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from processes import run

from ear.config import load_config
from ear.config.schema import EvaluationConfig, FashionMnistData
from ear.data import ImageDataset, Split, load_dataset, to_unit_range
from ear.data.fashion_mnist import DEBIAN_FOLDER, fashion_mnist, read_split
from ear.data.idx import read_idx
from ear.errors import UserError
from ear.evaluation.classifier import RECIPES, ClassifierRecipe, accuracy, build_classifier, train_classifier
from ear.evaluation.extractors import load_extractor
from ear.store import Store
from ear.tokenizers.patch import PatchTokenizer, patchify

IMAGES = 30


def idx_bytes(array: np.ndarray) -> bytes:
    """The format written out: two zero bytes, the type's code, the number of dimensions, the sizes, the values."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A training split of 30 images, its images gzipped and its labels plain."""
    pixels = np.random.default_rng(0).integers(256, size=(IMAGES, 28, 28), dtype=np.uint8)
    labels = (np.arange(IMAGES) % 10).astype(np.uint8)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(pixels)))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx_bytes(labels))
    return tmp_path


def test_idx_values_and_layout(tmp_path: Path) -> None:
    path = tmp_path / "values"
    path.write_bytes(bytes.fromhex("00000803 00000002 00000001 00000003") + bytes([1, 2, 3, 253, 254, 255]))
    assert read_idx(path, 3).tolist() == [[[1, 2, 3]], [[253, 254, 255]]]


def test_split_from_plain_and_gzipped_files(folder: Path) -> None:
    split = read_split(folder, "train", images=IMAGES)
    assert split.images.shape == (IMAGES, 1, 28, 28)
    assert split.images.dtype == torch.uint8
    assert split.labels.tolist() == list(range(10)) * 3
    zipped = folder / "train-images-idx3-ubyte.gz"
    (folder / "train-images-idx3-ubyte").write_bytes(gzip.decompress(zipped.read_bytes()))
    zipped.unlink()
    assert read_split(folder, "train", images=IMAGES).content_hash() == split.content_hash()


def labels_file(folder: Path) -> Path:
    return folder / "train-labels-idx1-ubyte"


def images_file(folder: Path) -> Path:
    return folder / "train-images-idx3-ubyte.gz"


FAULTS = {
    "missing": (images_file, lambda _: None, "is missing"),
    "short header": (labels_file, lambda content: content[:6], "truncated: 6 bytes, but the header alone needs 8"),
    "short values": (
        labels_file,
        lambda content: content[:-1],
        "truncated: 29 bytes of values, but its header says 30",
    ),
    "surplus values": (labels_file, lambda content: content + b"x", "too long: 31 bytes"),
    "magic": (labels_file, lambda content: b"\0\0\x0d\1" + content[4:], "magic number is 00000d01, not 00000801"),
    "short gzip": (images_file, lambda content: content[:-100], "truncated: the gzip stream ends early"),
    "no gzip": (images_file, lambda content: b"<html>" + content, "not a gzip file"),
    "broken gzip": (images_file, lambda content: content[:50] + b"\0" * 50 + content[100:], "damaged"),
    "count": (labels_file, lambda _: idx_bytes(np.zeros(29, np.uint8)), "29 labels for the 30 images"),
    "class": (labels_file, lambda content: content[:-1] + b"\x0a", "the label 10; the classes are 0 to 9"),
    "side": (
        images_file,
        lambda _: gzip.compress(idx_bytes(np.zeros((IMAGES, 32, 32), np.uint8))),
        "32x32 pixels, not 28x28",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faulty_files_are_named_with_fault_and_remedy(folder: Path, fault: str) -> None:
    choose, spoil, message = FAULTS[fault]
    path = choose(folder)
    content = spoil(path.read_bytes())
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as error:
        read_split(folder, "train", images=IMAGES)
    text = str(error.value)
    assert str(path).removesuffix(".gz") in text
    assert message in text
    assert "apt-get install dataset-fashion-mnist" in text
    assert "--set data.path=FOLDER" in text


def test_another_number_of_images_is_refused(folder: Path) -> None:
    """An epoch's length follows from the configuration's 60,000."""
    with pytest.raises(UserError, match="has 30 images, not Fashion-MNIST's 60000"):
        load_dataset(FashionMnistData(path=str(folder)))


@pytest.fixture(scope="module")
def published() -> ImageDataset:
    if not Path(DEBIAN_FOLDER).exists():
        pytest.skip("Debian's dataset-fashion-mnist is not installed: tests/install_debian_packages brings it")
    return fashion_mnist()


def test_published_files(published: ImageDataset) -> None:
    config = load_config("fashion_mnist").data
    assert len(published.train) == config.images
    assert len(published.test) == 10_000
    assert published.image_shape == config.image_shape
    assert published.classes == config.classes
    assert torch.bincount(published.train.labels).tolist() == [6000] * 10
    assert torch.bincount(published.test.labels).tolist() == [1000] * 10
    assert published.train.labels[:5].tolist() == [9, 0, 0, 3, 0]  # ankle boot, T-shirt, T-shirt, dress, T-shirt
    mean, std = published.train.images.double().mean() / 255, published.train.images.double().std() / 255
    assert (mean.item(), std.item()) == pytest.approx((0.2860, 0.3530), abs=5e-5)  # the customary constants


def test_published_patches_keep_their_variance(published: ImageDataset) -> None:
    """The shipped configuration's eight of sixteen values lose next to nothing of an image."""
    config = load_config("fashion_mnist").tokenizer
    images = to_unit_range(published.train.images[:5000])
    tokenizer = PatchTokenizer(published.image_shape, config.patch_size, config.components).fit(images)
    assert (tokenizer.tokens, tokenizer.token_dim) == (49, 8)
    lost = (tokenizer.decode(tokenizer.encode(images)) - images).square().mean() / images.var()
    assert 0.005 < lost < 0.03


SHAPE = (2, 12, 8)  # channels, height, width; patches of 4x4 have 32 values


def correlated_images(images: int = 200, seed: int = 0) -> torch.Tensor:
    """Smooth images plus a little noise, so that every eigenvalue is distinct and none is near 0."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(images, SHAPE[0], 3, 2, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=SHAPE[1:], mode="bilinear")
    return smooth + 0.2 * torch.randn(images, *SHAPE, generator=generator) + 0.3


def fitted(components: int | None, images: torch.Tensor) -> PatchTokenizer:
    return PatchTokenizer(SHAPE, 4, components).fit(images)


def eigenvalues(images: torch.Tensor) -> np.ndarray:
    """Of the patches' covariance, largest first, by another route than the tokenizer's: singular values."""
    patches = patchify(images, 4).flatten(0, 1).double().numpy()
    centred = patches - patches.mean(axis=0)
    return np.linalg.svd(centred, compute_uv=False) ** 2 / len(centred)


def test_all_components_reconstruct_exactly() -> None:
    images = correlated_images()
    tokenizer = fitted(32, images)
    torch.testing.assert_close(tokenizer.decode(tokenizer.encode(images)), images, atol=1e-5, rtol=0)


@pytest.mark.parametrize("components", [1, 5, 32])
def test_tokens_are_white(components: int) -> None:
    images = correlated_images()
    tokens = fitted(components, images).encode(images).flatten(0, 1).double()
    torch.testing.assert_close(tokens.mean(dim=0), torch.zeros_like(tokens[0]), atol=1e-5, rtol=0)
    covariance = torch.atleast_2d(torch.cov(tokens.T, correction=0))
    torch.testing.assert_close(covariance, torch.eye(components).double(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("components", [1, 5, 31])
def test_reconstruction_loses_the_eigenvalues_left_out(components: int) -> None:
    """Mean squared error of a patch = sum of the left-out eigenvalues (Eckart & Young 1936)."""
    images = correlated_images()
    tokenizer = fitted(components, images)
    error = patchify(tokenizer.decode(tokenizer.encode(images)) - images, 4).square().sum(dim=2).double().mean()
    assert error.item() == pytest.approx(eigenvalues(images)[components:].sum(), rel=1e-4)


def test_components_are_deterministic_and_signed() -> None:
    images = correlated_images()
    first, second = fitted(6, images), fitted(6, images)
    directions = first.directions
    assert torch.equal(directions, second.directions)
    assert (directions.gather(0, directions.abs().argmax(dim=0, keepdim=True)) > 0).all()
    # The sign does not hang on the solver's: mirrored data have the same axes.
    mirrored = fitted(6, -images)
    torch.testing.assert_close(mirrored.directions, directions, atol=1e-5, rtol=0)
    torch.testing.assert_close(fitted(3, images).directions, directions[:, :3])  # fewer are the first of more


def test_state_round_trip_restores_components() -> None:
    images = correlated_images()
    tokenizer = fitted(5, images)
    state = tokenizer.state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == {
        "mean": (32,),
        "std": (5,),
        "directions": (32, 5),
    }
    restored = PatchTokenizer(SHAPE, 4, 5)
    restored.load_state_dict(state)
    assert torch.equal(restored.encode(images), tokenizer.encode(images))
    assert set(PatchTokenizer(SHAPE, 4).state_dict()) == {"mean", "std"}  # checkpoints without components stay valid


def test_constant_directions_are_only_centred() -> None:
    images = correlated_images()
    images[:, 1] = 0.7  # half of the patch's 32 values
    tokens = fitted(20, images).encode(images)
    torch.testing.assert_close(tokens[..., 16:], torch.zeros_like(tokens[..., 16:]), atol=1e-5, rtol=0)


def test_more_components_than_values_are_refused() -> None:
    with pytest.raises(UserError, match=r"tokenizer.components: 33 exceeds the 32 values of a patch"):
        PatchTokenizer(SHAPE, 4, 33)


@pytest.fixture(scope="module")
def bars() -> ImageDataset:
    """Two easy classes of 12x12 images in two channels: bright rows or bright columns, in noise."""
    generator = torch.Generator().manual_seed(0)

    def split(images: int) -> Split:
        pixels = torch.randint(0, 100, (images, 2, 12, 12), generator=generator, dtype=torch.uint8)
        labels = torch.arange(images) % 2
        pixels[labels == 0, :, ::4] += 120
        pixels[labels == 1, :, :, ::4] += 120
        return Split(pixels, labels)

    return ImageDataset("bars", 2, split(400), split(100))


SMALL = ClassifierRecipe(blocks=((4,), (8,)), epochs=6, batch_size=32, learning_rate=1e-2, minimum_accuracy=0.9)


def test_classifier_learns_and_repeats(bars: ImageDataset) -> None:
    classifier = train_classifier(SMALL, bars)
    assert accuracy(build_classifier(SMALL, bars), bars.test) < 0.7
    assert accuracy(classifier, bars.test) > 0.95
    assert accuracy(classifier, bars.test, batch_size=7) == accuracy(classifier, bars.test)
    torch.manual_seed(5)  # the global generator has no say
    again = train_classifier(SMALL, bars)
    assert all(map(torch.equal, classifier.state_dict().values(), again.state_dict().values()))


def test_extractor_is_made_once_and_kept(bars: ImageDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RECIPES, "bars", SMALL)
    store = Store(tmp_path)
    made = load_extractor(EvaluationConfig(), "extractor", bars, store)
    assert made.name == "bars-classifier"
    monkeypatch.setattr("ear.evaluation.extractors.train_classifier", lambda *_: pytest.fail("trained again"))
    kept = load_extractor(EvaluationConfig(), "extractor", bars, store)
    assert (kept.weights_hash, kept.accuracy) == (made.weights_hash, made.accuracy)
    features = kept.extract(bars.test.images, batch_size=33)
    assert features.features.shape == (100, 8)
    assert features.logits.shape == (100, 2)


def test_classifier_below_its_bound_is_not_kept(
    bars: ImageDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An accuracy that the recipe does not promise means that the features are not those that results are quoted in."""
    monkeypatch.setitem(RECIPES, "bars", dataclasses.replace(SMALL, minimum_accuracy=1.1))
    store = Store(tmp_path)
    with pytest.raises(AssertionError, match="classifier of bars reaches only"):
        load_extractor(EvaluationConfig(), "extractor", bars, store)
    assert "extractor" not in store


def test_no_classifier_for_other_datasets(bars: ImageDataset, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="digits and fashion_mnist, not for bars; use one of torch-fidelity's"):
        load_extractor(EvaluationConfig(), "extractor", bars, Store(tmp_path))


@pytest.mark.slow
@pytest.mark.usefixtures("published")
def test_one_command_trains_and_evaluates_in_minutes(tmp_path: Path) -> None:
    """FID at most 45 with the configuration's own guidance; some ten minutes on a quiet core."""
    started = time.monotonic()
    printed = run(1, "train", "fashion_mnist", "--evaluate", "--root", str(tmp_path), "--json", timeout=2400)
    evaluation = json.loads(printed.splitlines()[-1])
    seconds = time.monotonic() - started
    print(f"fashion_mnist: {seconds:.0f} s, {evaluation['metrics']}")
    assert evaluation["images"] == 2000
    assert evaluation["metrics"]["fid"] <= 45
    assert list(tmp_path.glob("store/*/samples.png"))
