"""Official checkpoints to ours and back, of many sizes, from the command line."""

import argparse
from pathlib import Path

import pytest
import torch
import yaml
from in_process import ear
from processes import run
from test_kl_tokenizer import as_ldm, small_autoencoder
from torch import Tensor

from ear.config import RunConfig, load_config
from ear.config.loading import apply_overrides, validate
from ear.config.schema import EnergyConfig
from ear.convert import from_official, to_official
from ear.cost import cost
from ear.errors import UserError
from ear.model import build_model
from ear.official import load_official
from ear.tokenizers import build_tokenizer
from ear.training.checkpoint import CHECKPOINT, CheckpointHeader, load_header, load_part, save_checkpoint
from ear.training.token_data import TokenData
from ear.training.trainer import Trainer

TINY = Path(__file__).parents[1] / "reference" / "official_tiny.pth"


def official_file(path: Path) -> dict[str, object]:
    with torch.serialization.safe_globals([argparse.Namespace]):
        checkpoint: dict[str, object] = torch.load(path, weights_only=True)
    return checkpoint


def config_of(**sizes: int) -> RunConfig:
    """An ImageNet-like model of these sizes."""
    values = {
        "data": {"name": "image_folder", "size": sizes["size"], "classes": sizes["classes"], "images": 1_281_167},
        "tokenizer": {
            "name": "kl",
            "patch_size": sizes["patch"],
            "latent_channels": sizes["channels"],
            "stride": sizes["stride"],
        },
        "model": {
            "width": sizes["width"],
            "depth": sizes["depth"],
            "heads": sizes["heads"],
            "buffer_tokens": sizes["buffer"],
            "mlp_ratio": sizes.get("mlp_ratio", 4),
        },
        "scoring": {
            "name": "energy",
            "alpha": 1.25,
            "generator": {"width": sizes["head"], "depth": sizes["head_depth"], "noise_channels": sizes["noise"]},
        },
        "training": {"batch_size": 2048, "stages": [{"epochs": 5, "learning_rate_per_256": 1e-4}]},
        "sampling": {"steps": 7, "cfg": 2.5, "cfg_schedule": "constant", "infer_temperature": 0.8},
    }
    return validate(RunConfig, values, source="sizes")


SIZES = [
    {"size": 64, "stride": 16, "patch": 1, "channels": 4, "classes": 10},
    {"size": 64, "stride": 8, "patch": 2, "channels": 3, "classes": 7},
    {"size": 48, "stride": 16, "patch": 1, "channels": 16, "classes": 1},
]
MODELS = [
    {"width": 32, "depth": 2, "heads": 4, "buffer": 4, "head": 24, "head_depth": 1, "noise": 8},
    {"width": 48, "depth": 5, "heads": 3, "buffer": 1, "head": 16, "head_depth": 3, "noise": 5, "mlp_ratio": 2},
]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("sizes", SIZES)
def test_round_trip_of_many_sizes(tmp_path: Path, sizes: dict[str, int], model: dict[str, int]) -> None:
    """Ours -> official -> ours: the same weights, the same average, the same settings."""
    config = config_of(**sizes, **model)
    tokenizer = build_tokenizer(config)
    states = [
        build_model(
            config.model_copy(update={"seed": seed}), tokenizer.tokens, tokenizer.token_dim, config.data.classes
        ).state_dict()
        for seed in (0, 1)
    ]
    ours, official = tmp_path / CHECKPOINT, tmp_path / "official.pth"
    save_checkpoint(ours, CheckpointHeader(config, 5, ""), {"model": states[0], "ema": states[1]})
    to_official(ours, official)
    back = from_official(official, tmp_path / "back")
    for part, state in zip(("model", "ema"), states, strict=True):
        assert_same(load_part(back, part), state)
    found = load_header(back).config
    for section in ("data", "tokenizer", "model", "scoring", "sampling"):
        assert getattr(found, section) == getattr(config, section), section


def assert_same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_official_file_comes_back_key_by_key(tmp_path: Path) -> None:
    run(1, "convert", str(TINY), "--output", str(tmp_path / "ours"))
    ear("convert", tmp_path / "ours", "--output", tmp_path / "again.pth")
    first, again = official_file(TINY), official_file(tmp_path / "again.pth")
    for part in ("model", "model_ema"):
        one, other = first[part], again[part]
        assert isinstance(one, dict)
        assert isinstance(other, dict)
        assert_same(other, one)
    args = vars(first["args"])  # type: ignore[arg-type]
    assert {name: vars(again["args"])[name] for name in args} == args  # type: ignore[arg-type]


def test_the_official_command_s_args_are_our_recipe(tmp_path: Path) -> None:
    """Those of the second training command with the defaults of main_ear.py, as its checkpoints hold them."""
    checkpoint, path = official_file(TINY), tmp_path / "x.pth"
    args = vars(checkpoint["args"])  # type: ignore[arg-type]
    args |= {"batch_size": 32, "world_size": 32, "accumulation_steps": 2, "score_batch_mul": 2, "blr": 7e-5}
    args |= {"train_temperature": 0.99, "epochs": 800, "warmup_epochs": 100, "lr_schedule": "constant"}
    args |= {"weight_decay": 0.02, "score_lrscale": 0.25, "grad_clip": 3.0, "ema_rate": 0.9999}
    args |= {"label_drop_prob": 0.1, "mask_ratio_min": 0.7, "attn_dropout": 0.1, "proj_dropout": 0.1}
    torch.save(checkpoint, path)
    found, ours = load_official(path).config, load_config("imagenet256_base")
    assert isinstance(found.scoring, EnergyConfig)
    assert found.scoring.samples == 4
    assert found.optimizer == ours.optimizer
    assert found.training.model_copy(update={"stages": ()}) == ours.training.model_copy(update={"stages": ()})
    last = found.training.stages[0]
    assert (last.learning_rate_per_256, last.train_temperature) == (7e-5, 0.99)
    assert found.sampling == ours.sampling


@pytest.mark.parametrize(
    ("name", "value", "override"),
    [
        ("score_batch_mul", 3, "scoring.samples=6"),
        ("label_drop_prob", 0.2, "training.label_drop=0.2"),
        ("mask_ratio_min", 0.5, "training.mask_ratio_min=0.5"),
        ("grad_clip", 1.0, "optimizer.clip_norm=1"),
        ("ema_rate", 0.999, "optimizer.ema_decay=0.999"),
        ("weight_decay", 0.1, "optimizer.weight_decay=0.1"),
        ("score_lrscale", 1.0, "optimizer.generator_lr_scale=1"),
        ("warmup_epochs", 5.0, "optimizer.warmup_epochs=5"),
        ("lr_schedule", "cosine", "training.schedule=cosine"),
        ("batch_size", 16, "training.mask_group=16"),
        ("lr", 4e-4, "training.stages.0.learning_rate_per_256=5e-5"),
    ],
)
def test_each_arg_comes_and_goes(tmp_path: Path, name: str, value: object, override: str) -> None:
    checkpoint, path = official_file(TINY), tmp_path / "x.pth"
    vars(checkpoint["args"])[name] = value  # type: ignore[arg-type]
    torch.save(checkpoint, path)
    plain, found = load_official(TINY).config, load_official(path).config
    values = plain.model_dump(mode="json")
    apply_overrides(values, [override])
    if name == "batch_size":
        values["training"]["batch_size"] = 16 * 32 * 2
    assert found == validate(RunConfig, values, "expected")
    to_official(from_official(path, tmp_path / "ours"), tmp_path / "again.pth")
    again = vars(official_file(tmp_path / "again.pth")["args"])  # type: ignore[arg-type]
    expected = {"blr": 5e-5} if name == "lr" else {name: value}
    assert {key: again[key] for key in expected} == pytest.approx(expected)
    assert isinstance(again["score_batch_mul"], int)


def test_a_converted_model_samples_and_fine_tunes(tmp_path: Path) -> None:
    """With a small autoencoder of its latents' shape: 4 channels, 16 pixels each."""
    checkpoint = from_official(TINY, tmp_path / "ours")
    torch.save({"model": as_ldm(small_autoencoder((32,) * 5, latents=4))}, tmp_path / "vae.ckpt")
    autoencoder = f"tokenizer.checkpoint={tmp_path / 'vae.ckpt'}"
    grid = tmp_path / "grid.png"
    arguments = ["--classes", "2,7", "--num", "3", "--set", autoencoder, "--set", "sampling.steps=4"]
    assert "6 images" in ear("sample", checkpoint.parent, *arguments, "--out", grid).stdout
    assert grid.stat().st_size > 0

    config = load_header(checkpoint).config
    stage = {"steps": 2, "learning_rate_per_256": 7e-5}
    values = config.model_dump()
    values["training"] |= {"batch_size": 4, "stages": [stage], "initial_checkpoint": str(checkpoint)}
    tuned = Trainer(validate(RunConfig, values, "tuning"), RandomTokens(config))
    assert_same(dict(tuned.model.state_dict()), load_part(checkpoint, "ema"))
    tuned.advance()
    assert tuned.finished
    assert tuned.diverged_at is None


class RandomTokens(TokenData):
    def __init__(self, config: RunConfig) -> None:
        self.tokenizer = build_tokenizer(config)
        self.labels = torch.arange(8) % config.data.classes
        self.classes = config.data.classes
        self.content_hash = "random"

    def tokens(self, indices: Tensor, augmentation: tuple[Tensor, ...], device: torch.device) -> Tensor:
        shape = (len(indices), self.tokenizer.tokens, self.tokenizer.token_dim)
        return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_args_that_disagree_with_the_weights_are_named(tmp_path: Path) -> None:
    checkpoint, path = official_file(TINY), tmp_path / "x.pth"
    vars(checkpoint["args"])["decoder_depth"] = 3  # type: ignore[arg-type]
    torch.save(checkpoint, path)
    with pytest.raises(UserError, match=r"decoder_depth 3 \(the weights: 2\)"):
        load_official(path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("missing", "There is no file"),
        ("truncated", "is damaged"),
        ("no args", "it has no 'args'"),
        ("renamed", r"missing decoder_norm\.bias; unexpected decoder_normm\.bias"),
        ("safetensors", "is a safetensors file"),
    ],
)
def test_a_wrong_file_is_one_sentence(tmp_path: Path, damage: str, message: str) -> None:
    checkpoint, path = official_file(TINY), tmp_path / "x.pth"
    if damage == "no args":
        del checkpoint["args"]
    if damage == "renamed":
        weights = checkpoint["model_ema"]
        assert isinstance(weights, dict)
        weights["decoder_normm.bias"] = weights.pop("decoder_norm.bias")
    torch.save(checkpoint, path)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:5000])
    if damage == "safetensors":
        path.write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{}      ")
    if damage == "missing":
        path.unlink()
    with pytest.raises(UserError, match=message):
        load_official(path)


def test_models_that_the_official_project_lacks_are_refused(tmp_path: Path) -> None:
    path = tmp_path / CHECKPOINT
    save_checkpoint(path, CheckpointHeader(load_config("digits"), 0, ""), {"model": {}, "ema": {}})
    with pytest.raises(UserError, match="only models of autoencoder latents with the energy score"):
        to_official(path, tmp_path / "x.pth")
    with pytest.raises(UserError, match=r"ends in \.pth"):
        to_official(path, tmp_path / "folder")


def test_info_prints_the_papers_model() -> None:
    printed = run(1, "info", "imagenet256_base", "--set", "sampling.steps=1")  # FLOPs of 64 take long to count
    assert "205,608,720 (trunk 171,138,816, head 34,469,904)" in printed
    assert "500,455 steps of 2048 images = 800.0 epochs of 1,281,167" in printed


def test_flops_are_those_of_the_matrix_products(tmp_path: Path) -> None:
    """A model of one block and no head to speak of, by hand: forward, and twice that backward."""
    config = load_config("digits", ["model.depth=1", "training.mask_ratio_min=1.0"])
    path = tmp_path / "one.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    counted = cost(load_config(str(path)))
    width, positions, wanted, hidden, head = 48, 17, 16, 192, 64
    trunk = positions * width * 3 * width + wanted * (width * width + 2 * width * hidden) + 16 * 4 * width
    attention = 2 * wanted * positions * width
    samples = 2 * wanted
    blocks = 2 * samples * (3 * head * head + 2 * head * head)
    ends = samples * (8 * head + 2 * head * head + 4 * head) + wanted * width * head
    forward = 2 * (trunk + attention + blocks + ends)
    # The backward pass needs no gradient of tokens and noise: the first layers' half of it is left out.
    backward = 2 * forward - 2 * (16 * 4 * width + samples * 8 * head)
    assert counted.training_flops == pytest.approx(forward + backward, rel=1e-6)
