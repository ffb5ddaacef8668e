"""The paper's path from image files to metrics, through the command line, on a folder of small synthetic images.

KL-16 with weights from a rule, Inception with random ones: every part but the trained weights is the real one.
"""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from in_process import ear
from PIL import Image
from processes import kill_when, run, together

from ear.config import load_config
from ear.data import load_dataset
from ear.errors import UserError
from ear.sampling import Sampler
from ear.training.checkpoint import load_header, load_part

CLASSES, IMAGES_A_CLASS = 3, 8


@pytest.fixture(scope="module")
def folder(kl16_file: Path, inception_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, autoencoder, Inception and the configuration of a narrow EAR."""
    root = tmp_path_factory.mktemp("imagenet")
    write_images(root / "images")
    config = {
        "data": {
            "name": "image_folder",
            "path": str(root / "images"),
            "latents": str(root / "latents"),
            "size": 32,
            "classes": CLASSES,
            "images": CLASSES * IMAGES_A_CLASS,
        },
        "tokenizer": {"name": "kl", "checkpoint": str(kl16_file)},
        "model": {"width": 32, "depth": 2, "heads": 2, "buffer_tokens": 4},
        "scoring": {"name": "energy", "generator": {"width": 32, "depth": 2, "noise_channels": 8}},
        "training": {
            "batch_size": 8,
            "mask_group": 4,
            "stages": [{"epochs": 50, "learning_rate_per_256": 0.03}],
        },
        "sampling": {"steps": 3, "cfg": 3.0, "infer_temperature": 0.7},
        "evaluation": {
            "extractor": "inception-v3-compat",
            "extractor_weights": str(inception_file),
            "reference": "train",
            "images": 21,
            "null_images": 20,
        },
        "execution": {"batch_size": 16, "log_every": 5, "checkpoint_every": 0.001, "workers": 2},
    }
    (root / "narrow.yaml").write_text(yaml.safe_dump(config))
    return root


def write_images(folder: Path) -> None:
    """Coloured blobs of many sizes, PNG and JPEG, and one file that is no image."""
    random = np.random.default_rng(0)
    for label in range(CLASSES):
        (folder / f"n{label:08d}").mkdir(parents=True)
        for number in range(IMAGES_A_CLASS):
            blobs = random.integers(0, 255, (4, 4, 3), dtype=np.uint8)
            blobs[..., label] = 255
            size = tuple(random.integers(40, 90, 2).tolist())
            path = folder / f"n{label:08d}" / f"{number}.{('png', 'JPEG')[number % 2]}"
            Image.fromarray(blobs).resize(size, Image.Resampling.BICUBIC).save(path)
    (folder / "n00000001" / "broken.png").write_bytes(b"not an image")


def test_from_image_files_to_metrics(folder: Path) -> None:
    config, root = str(folder / "narrow.yaml"), str(folder / "runs")
    encoded = together(2, "encode", config, "--max-skipped", "0.1", "--measure-scale")
    assert f"{CLASSES * IMAGES_A_CLASS} images of {CLASSES} classes" in encoded
    assert "1 files could not be decoded" in encoded
    assert "broken.png" in (folder / "latents" / "skipped.txt").read_text()
    assert "Every shard is complete and unchanged" in run(1, "encode", config, "--verify")

    arguments = ("train", config, "--root", root)
    unfinished = folder / "runs" / "store" / ".work"
    kill_when(lambda: bool(list(unfinished.glob("*/checkpoint.safetensors"))), 2, *arguments)
    resumed = json.loads(run(2, *arguments, "--json"))  # by torchrun, to its end
    undisturbed = json.loads(together(2, "train", config, "--root", str(folder / "undisturbed"), "--json"))
    assert resumed["step"] == undisturbed["step"] == 150
    weights = [load_part(Path(outcome["checkpoint"]), "ema") for outcome in (resumed, undisturbed)]
    assert all(torch.equal(weights[0][name], value) for name, value in weights[1].items())

    checkpoint, kept = str(Path(resumed["checkpoint"]).parent), folder / "kept"
    evaluated = run(1, "evaluate", checkpoint, "--root", root, "--keep-images", str(kept), "--json")
    evaluation = json.loads(evaluated)
    assert evaluation["reference"] == "image_folder/train"
    assert evaluation["reference_images"] == CLASSES * IMAGES_A_CLASS
    assert {"fid", "is", "precision", "recall", "fid_null"} <= evaluation["metrics"].keys()
    assert evaluation["metrics"]["fid"] > 0
    assert len(list(kept.glob("*.png"))) == 41
    with Image.open(kept / "000004-0001.png") as image:
        assert (image.size, image.mode) == ((32, 32), "RGB")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("encode", "--set", "data.classes=5"), "data.classes is 5, but .* has 3 class folders"),
        (("encode", "--set", "data.size=48", "--max-skipped", "0.1"), "another crop size: data.size=32 then, 48 now"),
        (("train", "--set", "data.images=1000"), "data.images is 1000, but .* has 24"),
        (("train", "--set", "data.size=48"), "were cropped to 32 pixels"),
    ],
)
def test_wrong_input_is_one_sentence(folder: Path, arguments: tuple[str, ...], message: str) -> None:
    """After the first test, whose cache these ask for otherwise."""
    name, *settings = arguments
    root = () if name == "encode" else ("--root", str(folder / "wrong"))
    said = ear(name, folder / "narrow.yaml", *settings, *root, code=2).stderr
    assert re.search(f"error: .*{message}", said.replace("\n", " "))


def test_few_images_of_a_folder_are_of_all_classes(folder: Path) -> None:
    dataset = load_dataset(load_config(str(folder / "narrow.yaml")).data)
    (few,) = dataset.image_batches("train", 10, 0, most=4)
    (whole,) = dataset.image_batches("train", 100, 0)
    assert (len(few), len(whole)) == (4, CLASSES * IMAGES_A_CLASS)
    # Each class has one channel at 255: a red, a green and a blue one.
    assert few.float().mean(dim=(2, 3)).argmax(dim=1).tolist() == [0, 0, 1, 2]


def test_another_autoencoder_than_the_trained_one_is_refused(folder: Path, kl16_file: Path) -> None:
    """After the first test, whose checkpoint this one decodes with weights that differ in one number."""
    checkpoint = next((folder / "runs").glob("store/*/checkpoint.safetensors"))
    autoencoder = torch.load(kl16_file, weights_only=True)
    autoencoder["model"]["decoder.conv_out.bias"][0] += 0.1
    torch.save(autoencoder, folder / "other.ckpt")
    header = load_header(checkpoint)
    tokenizer = header.config.tokenizer.model_copy(update={"checkpoint": str(folder / "other.ckpt")})
    with pytest.raises(UserError, match="trained on latents of another autoencoder"):
        Sampler.load(checkpoint, header.config.model_copy(update={"tokenizer": tokenizer}))
