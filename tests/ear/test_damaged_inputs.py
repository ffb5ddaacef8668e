"""Damaged files give neither a number nor a divergence: no black images with a normal FID, and no result that the
intact file is then served."""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from encoding_parts import SIZE, encode, write_images
from safetensors.torch import load_file, save_file
from torch import Tensor

from ear.config import RunConfig, load_config
from ear.data import load_dataset
from ear.data.folder_dataset import FolderDataset
from ear.data.latents import LatentCache
from ear.errors import UserError
from ear.evaluation.evaluate import evaluate, prepare
from ear.evaluation.extractors import Extractor
from ear.evaluation.reference import load_reference
from ear.run import Run
from ear.sampling import Sampler
from ear.sampling.checked_decoding import OverflowingSamplesError, decoded_images
from ear.store import Store, run_keys
from ear.store.checkpoint_identity import checkpoint_keys
from ear.tokenizers import build_tokenizer
from ear.training.checkpoint import CHECKPOINT, DIGESTS, SEAL
from ear.training.token_data import load_token_data
from ear.training.trainer import Trainer

DIGITS = ["training.stages.0.steps=4", "training.stages.1.steps=4", "optimizer.warmup_steps=1", "execution.log_every=1"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))


# --- weights and images ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of digits. Not to be changed."""
    config = load_config("digits", DIGITS)
    path = tmp_path_factory.mktemp("untrained") / CHECKPOINT
    Trainer(config, load_token_data(config)).save(path)
    return path


def changed(checkpoint: Path, folder: Path, change: Callable[[dict[str, Tensor]], object]) -> Path:
    """A copy with other weights, its header kept, but for the hashes that earlier versions did not write."""
    from safetensors import safe_open

    with safe_open(checkpoint, framework="pt") as file:
        metadata = {name: value for name, value in file.metadata().items() if name not in (DIGESTS, SEAL)}
    weights = load_file(checkpoint)
    change(weights)
    save_file(weights, folder / CHECKPOINT, metadata)
    return folder / CHECKPOINT


def poison(name: str, value: float = float("nan")) -> Callable[[dict[str, Tensor]], object]:
    return lambda weights: weights[name].view(-1)[0:1].fill_(value)


@pytest.mark.parametrize("name", ["ema/trunk.class_embedding.weight", "tokenizer/mean"])
@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_a_checkpoint_with_a_weight_that_is_not_finite_is_named(
    name: str, value: float, untrained: Path, tmp_path: Path
) -> None:
    damaged = changed(untrained, tmp_path, poison(name, value))
    with pytest.raises(UserError, match=f"{damaged}, .* has weights that are NaN or infinite: {name.split('/')[1]}"):
        Sampler.load(damaged)


def test_finite_weights_that_overflow_are_no_damaged_file(untrained: Path, tmp_path: Path) -> None:
    huge = changed(untrained, tmp_path, lambda weights: [weight.fill_(1e38) for weight in weights.values()])
    sampler = Sampler.load(huge)
    with pytest.raises(OverflowingSamplesError, match=f"{huge}: sampling overflows, though all weights are finite"):
        sampler.sample(None, range(2), sampler.config.sampling, seed=0)


def kl_config(checkpoint: Path) -> RunConfig:
    tokenizer = {"checkpoint": checkpoint, "latent_channels": 3, "stride": 2}
    settings = [f"tokenizer.{name}={value}" for name, value in tokenizer.items()]
    return load_config("imagenet256_base", ["data.size=16", *settings])


def small_autoencoder(levels: int = 2) -> AutoencoderKL:
    torch.manual_seed(0)
    return AutoencoderKL(
        block_out_channels=[32] * levels,
        down_block_types=["DownEncoderBlock2D"] * levels,
        up_block_types=["UpDecoderBlock2D"] * levels,
        latent_channels=3,
        layers_per_block=1,
    )


def test_an_autoencoder_with_one_nan_is_named(tmp_path: Path) -> None:
    autoencoder = small_autoencoder()
    autoencoder.save_pretrained(tmp_path / "whole")
    tokenizer = build_tokenizer(kl_config(tmp_path / "whole"))
    tokenizer.require_decoder()
    with torch.inference_mode():
        assert decoded_images(tokenizer, torch.zeros(1, tokenizer.tokens, 3)).shape == (1, 3, 16, 16)
        with pytest.raises(
            OverflowingSamplesError, match=r"whole decodes finite tokens to images that are NaN or infinite"
        ):
            decoded_images(tokenizer, torch.full((1, tokenizer.tokens, 3), 3e38))
    torch.nn.init.constant_(autoencoder.decoder.conv_out.bias[:1], float("nan"))
    autoencoder.save_pretrained(tmp_path / "damaged")
    damaged = build_tokenizer(kl_config(tmp_path / "damaged"))
    with pytest.raises(UserError, match=r"tokenizer\.checkpoint: .*damaged has weights .*decoder\.conv_out\.bias"):
        damaged.require_decoder()


def test_an_extractor_whose_features_are_not_finite_is_named() -> None:
    class Nan(torch.nn.Module):
        def forward(self, images: Tensor) -> tuple[Tensor, None]:
            return torch.full((len(images), 2), float("nan")), None

    with pytest.raises(UserError, match="Features of broken are NaN"):
        Extractor("broken", Nan(), torch.device("cpu"), None, "").extract(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))


# --- what a training starts from ------------------------------------------------------------------------------------


def on_latents(cache: Path) -> RunConfig:
    data = {"latents": cache, "classes": 3, "images": 24, "size": SIZE}
    small = {
        "tokenizer.latent_channels": 3,
        "tokenizer.stride": 4,
        "model.width": 16,
        "model.depth": 1,
        "model.heads": 2,
        "model.buffer_tokens": 1,
        "scoring.generator.width": 16,
        "scoring.generator.depth": 1,
        "scoring.generator.noise_channels": 4,
        "training.batch_size": 8,
        "training.mask_group": 8,
        "training.stages": "[{steps: 6, learning_rate: 1.0e-3}]",
        "execution.log_every": 1,
        "execution.precision": "float32",
        "execution.micro_batch": "null",
    }
    values = {**{f"data.{name}": value for name, value in data.items()}, **small}
    return load_config("imagenet256_base", [f"{name}={value}" for name, value in values.items()])


def put_nan(cache: Path) -> None:
    """Into every row of a shard, in place, as a failing disk does."""
    moments = np.load(cache / "shard-00002.npy", mmap_mode="r+")
    moments[:] = np.nan
    moments.flush()


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    assert encode(write_images(tmp_path / "images"), tmp_path / "cache")
    return tmp_path / "cache"


def finish(trainer: Trainer) -> None:
    while not trainer.finished:
        trainer.advance()


def test_a_damaged_cache_trains_nothing(cache: Path, tmp_path: Path) -> None:
    LatentCache.open(cache).require_intact()
    put_nan(cache)
    run = Run(on_latents(cache), Store(tmp_path / "runs"))
    with pytest.raises(UserError, match=r"1 of 5 shards have changed since they were written \(shard-00002\.npy"):
        run.train()
    assert not run.store.published()


def test_a_cache_that_is_damaged_in_the_meantime_records_no_divergence(cache: Path, tmp_path: Path) -> None:
    run = Run(on_latents(cache), Store(tmp_path / "runs"))
    assert isinstance(run.dataset, FolderDataset)
    trainer = run.trainer()
    put_nan(cache)
    with pytest.raises(UserError, match=r"no divergence is recorded.*shard-00002\.npy: its content has changed"):
        finish(trainer)
    assert not run.store.published()
    (cache / "shard-00002.npy").unlink()
    assert encode(tmp_path / "images", cache)
    assert "it was replaced while in use" in run.dataset.cache.verify()[0]  # this process still reads the old one
    # The intact cache is served nothing of it, and trains to its end.
    outcome = Run(run.config, run.store).train()
    assert outcome is not None
    assert (outcome.step, outcome.diverged_at) == (6, None)


def test_before_a_sweep_trains_it_is_known_that_its_images_can_be_decoded(cache: Path, tmp_path: Path) -> None:
    """Training on cached latents needs no autoencoder; its evaluation does."""
    config, store = on_latents(cache), Store(tmp_path / "runs")
    dataset = load_dataset(config.data)
    with pytest.raises(UserError, match=r"tokenizer\.checkpoint is not set"):
        prepare(config, run_keys(config, dataset), dataset, store)
    small_autoencoder(levels=3).save_pretrained(tmp_path / "other")
    tokenizer = config.tokenizer.model_copy(update={"checkpoint": str(tmp_path / "other")})
    other = config.model_copy(update={"tokenizer": tokenizer})
    with pytest.raises(UserError, match="was encoded with another autoencoder"):
        prepare(other, run_keys(other, dataset), dataset, store)


def test_a_damaged_unfinished_checkpoint_records_no_divergence(tmp_path: Path) -> None:
    run = Run(load_config("digits", DIGITS), Store(tmp_path))
    trainer = run.trainer()
    trainer.advance()
    run.save_unfinished(trainer)
    unfinished = run.store.workspace(run.keys.stages[0])
    changed(unfinished / CHECKPOINT, unfinished, poison("model/trunk.class_embedding.weight"))
    with pytest.warns(
        UserWarning, match=f"{unfinished / CHECKPOINT}, model, has weights that are NaN.*restarts from its beginning"
    ):
        outcome = Run(run.config, run.store).train()
    assert outcome is not None
    assert (outcome.step, outcome.diverged_at) == (8, None)


def test_nothing_rests_on_a_stage_that_is_not_what_was_published(tmp_path: Path) -> None:
    """Its weights are finite, and others."""
    run = Run(load_config("digits", DIGITS), Store(tmp_path))
    trainer = run.trainer()
    while trainer.stage == 0:
        trainer.advance()
    first = run.store.path(run.keys.stages[0])
    changed(first / CHECKPOINT, first, poison("model/trunk.class_embedding.weight", 0.5))
    with pytest.raises(UserError, match=f"{first / CHECKPOINT} is damaged: its SHA-256 is not the published one"):
        Run(run.config, run.store).train()
    keys = checkpoint_keys(run.config, run.dataset, first / CHECKPOINT, run.store)
    with pytest.raises(UserError, match=f"{first / CHECKPOINT} is damaged: its SHA-256 is not the published one"):
        evaluate(first / CHECKPOINT, run.config, keys, run.dataset, run.store)
    assert run.store.published() == {run.keys.stages[0]}


def test_nothing_is_compared_with_features_that_are_not_what_was_published(tmp_path: Path) -> None:
    config, store = load_config("digits"), Store(tmp_path)
    dataset = load_dataset(config.data)
    extractor = Extractor("mean", Mean(), torch.device("cpu"), None, "")
    load_reference(config, "key", dataset, extractor, store)
    features = load_file(store.path("key") / "features.safetensors")
    save_file({**features, "mean": features["mean"] + 1}, store.path("key") / "features.safetensors")
    with pytest.raises(UserError, match=r"features\.safetensors is damaged: its SHA-256 is not the published one"):
        load_reference(config, "key", dataset, extractor, store)


class Mean(torch.nn.Module):
    def forward(self, images: Tensor) -> tuple[Tensor, None]:
        return images.double().mean(dim=(2, 3)), None


def test_a_true_divergence_is_a_result(cache: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings(action="ignore"):
        config = on_latents(cache)
        scoring = config.scoring.model_copy(update={"alpha": 0.5})
        run = Run(config.model_copy(update={"scoring": scoring}), Store(tmp_path / "runs"))
    outcome = run.train()
    assert outcome is not None
    assert outcome.diverged_at == 1
